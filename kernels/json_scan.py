"""JSON straight into a table of numbers: one row per member of an object, one column per path inside the member.

Pose files repeat one small shape tens of thousands of times. The scanner walks the bytes once, learns the paths as it
meets them (a trie over keys and list positions, with the last successor of each node as the first guess), and writes
every leaf into a cell of 64 bits. Numbers are themselves; everything else is a NaN with a payload:

``ABSENT``, ``NULL``, ``TRUE``, ``FALSE``, ``EMPTY_LIST``, ``EMPTY_OBJECT``, or ``STRING | offset`` of the text.

It accepts a plain subset of JSON (ASCII, no escapes, bounded depth) plus the bare tokens NaN, Infinity and -Infinity.
Anything else gives ``UNUSUAL``, and the caller reads the file with a general parser.

Decimal to binary: exact products of small powers of ten (Clinger, 1990), else the 128-bit product of Lemire, "Number
parsing at a gigabyte per second", Software: Practice and Experience 51 (2021); what that cannot decide is listed for
the caller.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ABSENT = 0xFFFC_0000_0000_0000
NULL = ABSENT + 1
TRUE = ABSENT + 2
FALSE = ABSENT + 3
EMPTY_LIST = ABSENT + 4
EMPTY_OBJECT = ABSENT + 5
STRING = 0xFFFD_0000_0000_0000
BOXED = 0x3FFF
"""The top 14 bits of every cell that is no number."""

DONE, GROW_ROWS, GROW_NODES, GROW_COLUMNS, GROW_SLOW, UNUSUAL = range(6)
# state of a scan: how much of each array is used; the stamp tells the rows apart
ROWS, NODES, COLUMNS, SLOW, STAMP = range(5)
# columns of the node table
PARENT, KEY, LENGTH, FIRST, LAST, SIBLING, NEXT, COLUMN, SEEN, N_FIELDS = range(10)
MAX_DEPTH = 12

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
_U32 = np.uint64(32)
_MASK32 = np.uint64(0xFFFF_FFFF)
_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_MASK9 = np.uint64(0x1FF)
_TOP = np.uint64(1 << 63)
_TWO53 = np.uint64(1 << 53)
_TWO19 = np.uint64(1_000_000_000_000_000_000)
_ABSENT, _NULL, _TRUE, _FALSE = np.uint64(ABSENT), np.uint64(NULL), np.uint64(TRUE), np.uint64(FALSE)
_EMPTY_LIST, _EMPTY_OBJECT, _STRING = np.uint64(EMPTY_LIST), np.uint64(EMPTY_OBJECT), np.uint64(STRING)


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _multiply(a, b):
    """High and low half of a 64 x 64 bit product."""
    a0, a1 = a & _MASK32, a >> _U32
    b0, b1 = b & _MASK32, b >> _U32
    p00, p01, p10 = a0 * b0, a0 * b1, a1 * b0
    middle = (p00 >> _U32) + (p01 & _MASK32) + (p10 & _MASK32)
    high = a1 * b1 + (p01 >> _U32) + (p10 >> _U32) + (middle >> _U32)
    return high, a * b


@njit(cache=True, error_model="numpy", nogil=True)
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
    zeros = 0
    w = digits
    for step in (32, 16, 8, 4, 2, 1):
        if w >> np.uint64(64 - step) == _U0:
            w = w << np.uint64(step)
            zeros += step
    high, low = _multiply(w, _HIGH[exponent - _Q_MIN])
    if (high & _MASK9) == _MASK9:
        more, _ = _multiply(w, _LOW[exponent - _Q_MIN])
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


@njit(cache=True, error_model="numpy", nogil=True)
def parse_number(data, pos):
    """One JSON number; the byte after the text must be no digit (the file's last byte is a brace).

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


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _space(data, pos, end):
    """Position of the next byte that is no white space."""
    while pos < end and (data[pos] == 32 or data[pos] == 10 or data[pos] == 13 or data[pos] == 9):
        pos += 1
    return pos


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _text_end(data, pos, end):
    """Position of the closing quote of a plain string that starts at ``pos``; -1 where it is not plain."""
    while pos < end:
        c = data[pos]
        if c == 34:
            return pos
        if c < 32 or c > 126 or c == 92:
            return -1
        pos += 1
    return -1


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _same_key(data, pos, end, nodes, node):
    """Whether the string that starts at ``pos`` is the key of a node."""
    size = nodes[node, LENGTH]
    if size < 0 or pos + size >= end or data[pos + size] != 34:
        return False
    key = nodes[node, KEY]
    for i in range(size):
        if data[pos + i] != data[key + i]:
            return False
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _add_node(nodes, state, parent, key, length):
    """A new child at the end of its parent's list; -1 when the table is full."""
    node = state[NODES]
    if node == nodes.shape[0]:
        return -1
    state[NODES] = node + 1
    nodes[node, PARENT] = parent
    nodes[node, KEY] = key
    nodes[node, LENGTH] = length
    nodes[node, FIRST] = nodes[node, LAST] = nodes[node, SIBLING] = nodes[node, NEXT] = nodes[node, COLUMN] = -1
    nodes[node, SEEN] = -1
    if nodes[parent, FIRST] < 0:
        nodes[parent, FIRST] = node
    else:
        nodes[nodes[parent, LAST], SIBLING] = node
    nodes[parent, LAST] = node
    return node


@njit(cache=True, error_model="numpy", nogil=True)
def _find_key(data, pos, end, nodes, state, parent, before):
    """Child of an object by the key at ``pos``; -1 table full, -2 not a plain string."""
    node = nodes[parent, FIRST]
    while node >= 0:
        if _same_key(data, pos, end, nodes, node):
            return node
        node = nodes[node, SIBLING]
    close = _text_end(data, pos, end)
    if close < 0:
        return -2
    return _add_node(nodes, state, parent, pos, close - pos)


@njit(cache=True, error_model="numpy", nogil=True)
def _find_index(nodes, state, parent, index):
    """Child of a list by its position; -1 table full."""
    node = nodes[parent, FIRST]
    while node >= 0:
        if nodes[node, LENGTH] < 0 and nodes[node, KEY] == index:
            return node
        node = nodes[node, SIBLING]
    return _add_node(nodes, state, parent, index, -1)


@njit(cache=True, error_model="numpy", nogil=True)
def _scan_value(data, pos, end, words, values, nodes, slow, state, row, stack):
    """One value below the root node into one row; returns (status, position after it)."""
    stamp = state[STAMP]
    depth = -1
    node = 0
    before = -1
    inside_list = False
    while True:
        # a value of `node` starts at pos
        c = data[pos]
        if c == 123 or c == 91:
            opened_list = c == 91
            first = _space(data, pos + 1, end)
            if first >= end:
                return UNUSUAL, pos
            if data[first] != (93 if opened_list else 125):
                depth += 1
                if depth == stack.shape[0]:
                    return UNUSUAL, pos
                stack[depth, 0] = node
                stack[depth, 1] = opened_list
                stack[depth, 2] = 0
                inside_list = opened_list
                before = -1
                pos = first
            else:
                column = nodes[node, COLUMN]
                if column < 0:
                    column = state[COLUMNS]
                    if column == words.shape[1]:
                        return GROW_COLUMNS, pos
                    nodes[node, COLUMN] = column
                    state[COLUMNS] = column + 1
                words[row, column] = _EMPTY_LIST if opened_list else _EMPTY_OBJECT
                pos = first + 1
                before = node
                first = -1
        else:
            first = -1
            column = nodes[node, COLUMN]
            if column < 0:
                column = state[COLUMNS]
                if column == words.shape[1]:
                    return GROW_COLUMNS, pos
                nodes[node, COLUMN] = column
                state[COLUMNS] = column + 1
            if c == 34:
                close = _text_end(data, pos + 1, end)
                if close < 0:
                    return UNUSUAL, pos
                words[row, column] = _STRING | np.uint64(pos + 1)
                pos = close + 1
            elif c == 45 and data[pos + 1] == 73:
                if not _literal(data, pos + 1, end, 73, 110, 102, 105, 110, 105, 116, 121):
                    return UNUSUAL, pos
                values[row, column] = -np.inf
                pos += 9
            elif c == 45 or 48 <= c <= 57:
                how, after, value = parse_number(data, pos)
                if how == 2:
                    return UNUSUAL, pos
                if how == 1:
                    if state[SLOW] == slow.shape[0]:
                        return GROW_SLOW, pos
                    slow[state[SLOW], 0] = row
                    slow[state[SLOW], 1] = column
                    slow[state[SLOW], 2] = pos
                    slow[state[SLOW], 3] = after
                    state[SLOW] += 1
                values[row, column] = value
                pos = after
            elif c == 78:
                if pos + 2 >= end or data[pos + 1] != 97 or data[pos + 2] != 78:
                    return UNUSUAL, pos
                values[row, column] = np.nan
                pos += 3
            elif c == 73:
                if not _literal(data, pos, end, 73, 110, 102, 105, 110, 105, 116, 121):
                    return UNUSUAL, pos
                values[row, column] = np.inf
                pos += 8
            elif c == 110:
                if pos + 3 >= end or data[pos + 1] != 117 or data[pos + 2] != 108 or data[pos + 3] != 108:
                    return UNUSUAL, pos
                words[row, column] = _NULL
                pos += 4
            elif c == 116:
                if pos + 3 >= end or data[pos + 1] != 114 or data[pos + 2] != 117 or data[pos + 3] != 101:
                    return UNUSUAL, pos
                words[row, column] = _TRUE
                pos += 4
            elif c == 102:
                if pos + 4 >= end or not (
                    data[pos + 1] == 97 and data[pos + 2] == 108 and data[pos + 3] == 115 and data[pos + 4] == 101
                ):
                    return UNUSUAL, pos
                words[row, column] = _FALSE
                pos += 5
            else:
                return UNUSUAL, pos
            before = node
        if first < 0:
            # a value ended: close containers until one goes on
            while True:
                if depth < 0:
                    return DONE, pos
                pos = _space(data, pos, end)
                if pos >= end:
                    return UNUSUAL, pos
                c = data[pos]
                pos += 1
                if c == 44:
                    pos = _space(data, pos, end)
                    break
                if c != (93 if inside_list else 125):
                    return UNUSUAL, pos
                before = stack[depth, 0]
                depth -= 1
                if depth >= 0:
                    inside_list = stack[depth, 1] != 0
        # the next member of the container on top starts at pos
        if pos >= end:
            return UNUSUAL, pos
        parent = stack[depth, 0]
        guess = nodes[parent, FIRST] if before < 0 else nodes[before, NEXT]
        if inside_list:
            index = stack[depth, 2]
            stack[depth, 2] = index + 1
            if guess >= 0 and nodes[guess, LENGTH] < 0 and nodes[guess, KEY] == index:
                node = guess
            else:
                node = _find_index(nodes, state, parent, index)
        else:
            if data[pos] != 34:
                return UNUSUAL, pos
            pos += 1
            if guess >= 0 and _same_key(data, pos, end, nodes, guess):
                node = guess
            else:
                node = _find_key(data, pos, end, nodes, state, parent, before)
        if node < 0:
            return (GROW_NODES if node == -1 else UNUSUAL), pos
        if nodes[node, SEEN] == stamp:
            # a key stands twice
            return UNUSUAL, pos
        nodes[node, SEEN] = stamp
        if before >= 0:
            nodes[before, NEXT] = node
        if not inside_list:
            pos = _space(data, pos + nodes[node, LENGTH] + 1, end)
            if pos >= end or data[pos] != 58:
                return UNUSUAL, pos
            pos = _space(data, pos + 1, end)
            if pos >= end:
                return UNUSUAL, pos


@njit(cache=True, error_model="numpy", nogil=True)
def _literal(data, pos, end, a, b, c, d, e, f, g, h):
    """Whether eight given bytes stand at ``pos``."""
    return (
        pos + 7 < end
        and data[pos] == a
        and data[pos + 1] == b
        and data[pos + 2] == c
        and data[pos + 3] == d
        and data[pos + 4] == e
        and data[pos + 5] == f
        and data[pos + 6] == g
        and data[pos + 7] == h
    )


@njit(cache=True, error_model="numpy", nogil=True)
def scan_rows(data, pos, end, words, values, spans, nodes, slow, state):
    """The members of an object into rows, from a member's first byte to past the closing brace.

    Call again with the position returned after growing the array that was full.

    Args:
        data: (B,) uint8; ``data[end - 1]`` is a closing brace.
        pos: Position of the quote of a member's key.
        end: Bytes from here on are not read.
        words: (R, C) uint64 cells, written; the rows not in use hold ``ABSENT``.
        values: The same memory as float64.
        spans: (R, 4) int64: start and end of the key's text and of the value, written.
        nodes: (N, N_FIELDS) int64 paths; row 0 is the root.
        slow: (S, 4) int64: row, column, start, end of numbers that are left to the caller, written.
        state: (5,) int64: used rows, nodes, columns, slow numbers, stamp; written.

    Returns:
        (status, position)
    """
    stack = np.empty((MAX_DEPTH, 3), dtype=np.int64)
    while True:
        if pos >= end or data[pos] != 34:
            return UNUSUAL, pos
        row = state[ROWS]
        if row == words.shape[0]:
            return GROW_ROWS, pos
        close = _text_end(data, pos + 1, end)
        if close < 0:
            return UNUSUAL, pos
        after = _space(data, close + 1, end)
        if after >= end or data[after] != 58:
            return UNUSUAL, after
        after = _space(data, after + 1, end)
        if after >= end:
            return UNUSUAL, after
        state[STAMP] += 1
        n_slow = state[SLOW]
        status, stop = _scan_value(data, after, end, words, values, nodes, slow, state, row, stack)
        if status != DONE:
            words[row, :] = _ABSENT
            state[SLOW] = n_slow
            return status, (pos if status != UNUSUAL else stop)
        spans[row, 0] = pos + 1
        spans[row, 1] = close
        spans[row, 2] = after
        spans[row, 3] = stop
        state[ROWS] = row + 1
        pos = _space(data, stop, end)
        if pos >= end:
            return UNUSUAL, pos
        if data[pos] == 125:
            return DONE, pos + 1
        if data[pos] != 44:
            return UNUSUAL, pos
        pos = _space(data, pos + 1, end)
