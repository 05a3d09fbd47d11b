"""Decimal text to the nearest double: exact where a few integer operations decide it, else left to the caller.

Exact products of small powers of ten (Clinger, "How to read floating point numbers accurately", 1990), else the
128-bit product of Lemire, "Number parsing at a gigabyte per second", Software: Practice and Experience 51 (2021).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_Q_MIN, _Q_MAX = -60, 60
_EXACT = np.array([10.0**k for k in range(23)])
_POW2_MIN = -400
_POW2 = np.array([2.0**k for k in range(_POW2_MIN, 401)])


def _power_of_five(q: int) -> int:
    """The leading 128 bits of 5**q, rounded down for q >= 0 and up for q < 0."""
    if q >= 0:
        value = 5**q
        bits = value.bit_length()
        return value << (128 - bits) if bits <= 128 else value >> (bits - 128)
    divisor = 5**-q
    value = (1 << (divisor.bit_length() + 260)) // divisor
    return (value >> (value.bit_length() - 128)) + 1


_FIVES = [_power_of_five(q) for q in range(_Q_MIN, _Q_MAX + 1)]
_HIGH = np.array([five >> 64 for five in _FIVES], dtype=np.uint64)
_LOW = np.array([five & 0xFFFF_FFFF_FFFF_FFFF for five in _FIVES], dtype=np.uint64)

_U0, _U1, _U3 = np.uint64(0), np.uint64(1), np.uint64(3)
_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_MASK9 = np.uint64(0x1FF)
_ZERO, _NINE = np.uint64(48), np.uint64(9)
_TEN1, _TEN2, _TEN3, _TEN4 = np.uint64(10), np.uint64(100), np.uint64(1000), np.uint64(10000)
_TWO53 = np.uint64(1 << 53)


@intrinsic
def _leading_zeros(typingctx, value):
    """Zero bits above the highest one of a uint64 that is not 0: one instruction, where a search mispredicts."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _wide_product(typingctx, a, b):
    """High and low half of a 64 x 64 bit product, as the processor gives them."""

    def generate(context, builder, signature, arguments):
        wide = ir.IntType(128)
        word = ir.IntType(64)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, signature.return_type, (high, builder.trunc(product, word)))

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), generate


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def decimal_to_double(digits, exponent):
    """The double nearest to ``digits * 10**exponent``; returns (value, decided).

    Args:
        digits: uint64, not 0.
        exponent: int64.
    """
    if digits <= _TWO53:
        if 0 <= exponent <= 22:
            return np.float64(digits) * _EXACT[exponent], True
        if -22 <= exponent < 0:
            return np.float64(digits) / _EXACT[-exponent], True
    if exponent < _Q_MIN or exponent > _Q_MAX:
        return 0.0, False
    zeros = _leading_zeros(digits)
    w = digits << np.uint64(zeros)
    high, low = _wide_product(w, _HIGH[exponent - _Q_MIN])
    if (high & _MASK9) == _MASK9:
        more, _ = _wide_product(w, _LOW[exponent - _Q_MIN])
        low = low + more
        if more > low:
            high = high + _U1
    if low == _ONES and (exponent < -27 or exponent > 55):
        return 0.0, False
    upper = np.int64(high >> np.uint64(63))
    shift = np.uint64(upper + 9)
    mantissa = high >> shift
    if low <= _U1 and -4 <= exponent <= 23 and (mantissa & _U3) == _U1 and (mantissa << shift) == high:
        # exactly half way: to even
        mantissa = mantissa & ~_U1
    mantissa = (mantissa + (mantissa & _U1)) >> _U1
    # floor(log2(5**q)) as a product, exact over this range
    power = ((217706 * exponent) >> 16) + 63 + upper - zeros
    return np.float64(mantissa) * _POW2[power - 52 - _POW2_MIN], True


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def parse_number(data, pos, end):
    """One JSON number; the byte after the text must be no digit (``data[end - 1]`` is a brace).

    Returns:
        (how, position after it, value); how is 0 for a value, 1 for one that the caller must decide, 2 for no number.
    """
    start = pos
    negative = data[pos] == 45
    if negative:
        pos += 1
    c = data[pos]
    digits = _U0
    if c == 48:
        pos += 1
    elif 49 <= c <= 57:
        while True:
            c = data[pos] - 48
            if c < 0 or c > 9:
                break
            digits = digits * np.uint64(10) + np.uint64(c)
            pos += 1
    else:
        return 2, pos, 0.0
    size = pos - start
    exponent = 0
    whole = True
    if data[pos] == 46:
        whole = False
        pos += 1
        point = pos
        while pos + 4 < end:
            # four digits at once: one step in the chain of multiplications
            a = np.uint64(data[pos]) - _ZERO
            b = np.uint64(data[pos + 1]) - _ZERO
            c4 = np.uint64(data[pos + 2]) - _ZERO
            d = np.uint64(data[pos + 3]) - _ZERO
            if a > _NINE or b > _NINE or c4 > _NINE or d > _NINE:
                break
            digits = digits * _TEN4 + (a * _TEN3 + b * _TEN2 + c4 * _TEN1 + d)
            pos += 4
        while True:
            c = data[pos] - 48
            if c < 0 or c > 9:
                break
            digits = digits * np.uint64(10) + np.uint64(c)
            pos += 1
        exponent = point - pos
        if exponent == 0:
            return 2, pos, 0.0
        size += pos - point
    if data[pos] == 101 or data[pos] == 69:
        whole = False
        pos += 1
        down = data[pos] == 45
        if down or data[pos] == 43:
            pos += 1
        e = 0
        begin = pos
        while 48 <= data[pos] <= 57:
            if e < 100000:
                e = e * 10 + data[pos] - 48
            pos += 1
        if pos == begin:
            return 2, pos, 0.0
        exponent += -e if down else e
    # 18 digits and a sign always fit; longer texts may have overflowed
    if size > 19:
        significant = 0
        leading = True
        for i in range(start, pos):
            c = data[i]
            if c == 101 or c == 69:
                break
            if 48 <= c <= 57 and not (leading and c == 48):
                leading = False
                significant += 1
        if significant > 19:
            return (2 if whole else 1), pos, 0.0
    if digits == _U0:
        return 0, pos, (-0.0 if negative and not whole else 0.0)
    value, decided = decimal_to_double(digits, exponent)
    if not decided:
        return 1, pos, 0.0
    return 0, pos, (-value if negative else value)
