"""Vectors of float64 lanes inside Numba: one frame per lane.

Numba's own vectoriser does not see through a loop over frames whose body is long; here the lanes are explicit. A
:data:`VEC` holds :data:`LANES` numbers, a :data:`MASK` as many truths. Every operation works lane by lane, so what one
frame yields cannot depend on its neighbours, and nothing is reordered or contracted behind our back.
"""

from __future__ import annotations

import operator
from typing import Any

import llvmlite.binding as llvm
import numba as nb
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# two registers' worth on older machines, one where 512 bits exist; kernels are cached per processor
LANES = 8 if "+avx512f" in llvm.get_host_cpu_features().flatten() else 4

BARE: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True, "_nrt": False}
"""Options of kernels that allocate nothing: without counted references, whose atomic steps would drain the pipeline."""

_F64 = ir.DoubleType()
_VEC = ir.VectorType(_F64, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class VecType(types.Type):
    """Numba type of a vector of float64 lanes."""

    def __init__(self) -> None:
        super().__init__(name=f"Vec{LANES}")


class MaskType(types.Type):
    """Numba type of a vector of truths."""

    def __init__(self) -> None:
        super().__init__(name=f"Mask{LANES}")


VEC = VecType()
MASK = MaskType()


@register_model(VecType)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VEC)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _MASK)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VEC, [float(value)] * LANES)


def _spread(builder, value):
    one = builder.insert_element(ir.Constant(_VEC, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VEC, ir.Undefined), zeros)


def _arithmetic(symbol, method):
    @infer_global(symbol)
    class _Template(ConcreteTemplate):
        cases = (signature(VEC, VEC, VEC), signature(VEC, VEC, types.float64), signature(VEC, types.float64, VEC))

    @lower_builtin(symbol, VEC, VEC)
    def _vv(context, builder, sig, args):
        return getattr(builder, method)(*args)

    @lower_builtin(symbol, VEC, types.float64)
    def _vs(context, builder, sig, args):
        return getattr(builder, method)(args[0], _spread(builder, args[1]))

    @lower_builtin(symbol, types.float64, VEC)
    def _sv(context, builder, sig, args):
        return getattr(builder, method)(_spread(builder, args[0]), args[1])


for _symbol, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_symbol, _method)


def _comparison(symbol, sign):
    @infer_global(symbol)
    class _Template(ConcreteTemplate):
        cases = (signature(MASK, VEC, VEC), signature(MASK, VEC, types.float64))

    @lower_builtin(symbol, VEC, VEC)
    def _vv(context, builder, sig, args):
        return builder.fcmp_ordered(sign, *args)

    @lower_builtin(symbol, VEC, types.float64)
    def _vs(context, builder, sig, args):
        return builder.fcmp_ordered(sign, args[0], _spread(builder, args[1]))


for _symbol, _sign in (
    (operator.gt, ">"),
    (operator.lt, "<"),
    (operator.eq, "=="),
    (operator.ge, ">="),
    (operator.le, "<="),
):
    _comparison(_symbol, _sign)


def _logic(symbol, method):
    @infer_global(symbol)
    class _Template(ConcreteTemplate):
        cases = (signature(MASK, MASK, MASK),)

    @lower_builtin(symbol, MASK, MASK)
    def _mm(context, builder, sig, args):
        return getattr(builder, method)(*args)


for _symbol, _method in ((operator.and_, "and_"), (operator.or_, "or_"), (operator.xor, "xor")):
    _logic(_symbol, _method)


@intrinsic
def splat(typingctx, value):
    """A float64 in every lane."""

    def codegen(context, builder, sig, args):
        return _spread(builder, context.cast(builder, args[0], sig.args[0], types.float64))

    return VEC(types.float64), codegen


@intrinsic
def nowhere(typingctx):
    """A mask that is false in every lane."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_MASK, [0] * LANES)

    return MASK(), codegen


@intrinsic
def select(typingctx, mask, yes, no):
    """``yes`` where the mask is true, ``no`` elsewhere."""

    def codegen(context, builder, sig, args):
        return builder.select(*args)

    return VEC(MASK, VEC, VEC), codegen


@intrinsic
def keep(typingctx, mask, value):
    """The value where the mask is true, 0 elsewhere (also instead of NaN)."""

    def codegen(context, builder, sig, args):
        return builder.select(args[0], args[1], _constant(0.0))

    return VEC(MASK, VEC), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a * b + c`` with one rounding."""

    def codegen(context, builder, sig, args):
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VEC, [_VEC] * 3), f"llvm.fma.v{LANES}f64")
        return builder.call(fn, args)

    return VEC(VEC, VEC, VEC), codegen


@intrinsic
def root(typingctx, a):
    """Square roots."""

    def codegen(context, builder, sig, args):
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VEC, [_VEC]), f"llvm.sqrt.v{LANES}f64")
        return builder.call(fn, args)

    return VEC(VEC), codegen


@intrinsic
def size(typingctx, a):
    """Absolute values."""

    def codegen(context, builder, sig, args):
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VEC, [_VEC]), f"llvm.fabs.v{LANES}f64")
        return builder.call(fn, args)

    return VEC(VEC), codegen


@intrinsic
def bits(typingctx, mask):
    """The mask as an integer: bit i is lane i."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))

    return types.int64(MASK), codegen


@intrinsic
def mask_of(typingctx, value):
    """The mask whose lane i is bit i of an integer."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(builder.trunc(args[0], ir.IntType(LANES)), _MASK)

    return MASK(types.int64), codegen


@intrinsic(prefer_literal=True)
def slide(typingctx, before, now, steps):
    """The lanes ``steps`` earlier: the last ones of ``before``, then the first ones of ``now``; steps is a literal."""
    count = steps.literal_value

    def codegen(context, builder, sig, args):
        pick = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [LANES - count + lane for lane in range(LANES)])
        return builder.shuffle_vector(args[0], args[1], pick)

    return VEC(VEC, VEC, steps), codegen


@intrinsic
def sum_triples(typingctx, a, b, c):
    """Of 3 LANES numbers in a row, the sums of each three neighbours."""

    def codegen(context, builder, sig, args):
        i32 = ir.IntType(32)
        pick = ir.VectorType(i32, LANES)
        columns = []
        for k in range(3):
            at = [3 * lane + k for lane in range(LANES)]
            first = [i if i < 2 * LANES else 0 for i in at]
            both = builder.shuffle_vector(args[0], args[1], ir.Constant(pick, first))
            then = [lane if i < 2 * LANES else LANES + i - 2 * LANES for lane, i in enumerate(at)]
            columns.append(builder.shuffle_vector(both, args[2], ir.Constant(pick, then)))
        return builder.fadd(builder.fadd(columns[0], columns[1]), columns[2])

    return VEC(VEC, VEC, VEC), codegen


@intrinsic
def ceiling(typingctx, a):
    """The whole numbers not below."""

    def codegen(context, builder, sig, args):
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VEC, [_VEC]), f"llvm.ceil.v{LANES}f64")
        return builder.call(fn, args)

    return VEC(VEC), codegen


@intrinsic
def count_true(typingctx, mask):
    """How many lanes are true."""

    def codegen(context, builder, sig, args):
        whole = builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))
        return builder.ctpop(whole)

    return types.int64(MASK), codegen


@intrinsic
def ones(typingctx, value):
    """How many bits of an integer are set."""

    def codegen(context, builder, sig, args):
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


@intrinsic
def total_of(typingctx, a):
    """Sum of the lanes, by halves."""

    def codegen(context, builder, sig, args):
        value, n, i32 = args[0], LANES, ir.IntType(32)
        while n > 1:
            n //= 2
            nothing = ir.Constant(value.type, ir.Undefined)
            low = ir.Constant(ir.VectorType(i32, n), list(range(n)))
            high = ir.Constant(ir.VectorType(i32, n), list(range(n, 2 * n)))
            value = builder.fadd(
                builder.shuffle_vector(value, nothing, low), builder.shuffle_vector(value, nothing, high)
            )
        return builder.extract_element(value, ir.Constant(i32, 0))

    return types.float64(VEC), codegen


@intrinsic
def _inverse_root_14(typingctx, a):
    """Inverse square roots to 14 bits; only where 512 bits exist."""

    def codegen(context, builder, sig, args):
        i8 = ir.IntType(8)
        kind = ir.FunctionType(_VEC, [_VEC, _VEC, i8])
        fn = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.rsqrt14.pd.512")
        return builder.call(fn, [args[0], _constant(0.0), ir.Constant(i8, -1)])

    return VEC(VEC), codegen


if LANES == 8:

    @nb.njit(**BARE)
    def quick_root(a):
        """Square roots to one unit in the last place, in a third of the time; NaN for infinity."""
        y = _inverse_root_14(a)
        y = select(y < 1e300, y, splat(1e300))
        t = a * y
        # a y^2 = 1 - r: three terms of the series of (1 - r)^-1/2 are exact to r^4, some 2^-52
        r = fma(t * -1.0, y, splat(1.0))
        series = fma(r, fma(r, splat(0.3125), splat(0.375)), splat(0.5))
        return fma(t * r, series, t)

else:
    quick_root = root
