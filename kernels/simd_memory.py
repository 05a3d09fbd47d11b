"""Vectors of float64 lanes between registers and arrays: loads, stores, transposes, masks as bits."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .simd import _MASK, _VEC, LANES, MASK, VEC


def _pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def load(typingctx, array, index):
    """LANES consecutive numbers of a contiguous one-dimensional float64 array."""

    def codegen(context, builder, sig, args):
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], *args), _VEC.as_pointer())
        return builder.load(pointer, align=8)

    return VEC(array, types.int64), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write LANES consecutive numbers."""

    def codegen(context, builder, sig, args):
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], args[0], args[1]), _VEC.as_pointer())
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.int64, VEC), codegen


@intrinsic
def turn_bits(typingctx, source, start, stride, out, offset):
    """Eight bytes from each of LANES frames: byte k of the result has bit i set where byte k of frame i is not 0.

    Frame i begins at ``start + i * stride`` of the flat uint8 source; ``out`` is uint8 and gets eight bytes.
    """

    def codegen(context, builder, sig, args):
        src, begin, step, dst, to = args
        i8, i32, index = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        block = ir.Constant(ir.VectorType(index, 8), [0] * 8)
        for lane in range(LANES):
            at = builder.add(begin, builder.mul(step, ir.Constant(index, lane)))
            pointer = builder.bitcast(_pointer(context, builder, sig.args[0], src, at), index.as_pointer())
            block = builder.insert_element(block, builder.load(pointer, align=1), ir.Constant(i32, lane))
        many = ir.VectorType(i8, 64)
        order = ir.Constant(ir.VectorType(i32, 64), [8 * lane + k for k in range(8) for lane in range(8)])
        turned = builder.shuffle_vector(builder.bitcast(block, many), ir.Constant(many, ir.Undefined), order)
        true = builder.icmp_unsigned("!=", turned, ir.Constant(many, [0] * 64))
        pointer = builder.bitcast(_pointer(context, builder, sig.args[3], dst, to), index.as_pointer())
        builder.store(builder.bitcast(true, index), pointer, align=1)
        return context.get_dummy_value()

    return types.none(source, types.int64, types.int64, out, types.int64), codegen


@intrinsic
def load_mask(typingctx, array, index):
    """The truths of a byte: lane i is bit i."""

    def codegen(context, builder, sig, args):
        byte = builder.load(_pointer(context, builder, sig.args[0], *args))
        if LANES < 8:
            byte = builder.trunc(byte, ir.IntType(LANES))
        return builder.bitcast(byte, _MASK)

    return MASK(array, types.int64), codegen


@intrinsic
def store_mask(typingctx, array, index, mask):
    """Write a mask as a byte: bit i is lane i."""

    def codegen(context, builder, sig, args):
        byte = builder.bitcast(args[2], ir.IntType(LANES))
        if LANES < 8:
            byte = builder.zext(byte, ir.IntType(8))
        builder.store(byte, _pointer(context, builder, sig.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.none(array, types.int64, MASK), codegen


@intrinsic
def turn_block(typingctx, source, start, stride, tile, offset):
    """LANES numbers from each of LANES frames, transposed: row k of the tile gets number k of every frame.

    The source is a flat contiguous array of float32 or float64, the tile is float64; frame i begins at
    ``start + i * stride``, row k of the tile at ``offset + k * LANES``.
    """

    def codegen(context, builder, sig, args):
        src, begin, step, dst, to = args
        kind = sig.args[0].dtype
        element = context.get_data_type(kind)
        index = ir.IntType(64)
        i32 = ir.IntType(32)
        width = 8 if kind == types.float64 else 4
        part = LANES // 2
        short = ir.VectorType(element, part)
        pick = ir.VectorType(i32, LANES)
        join = ir.Constant(pick, list(range(LANES)))
        rows = [None] * LANES
        # the first exchange, of half rows, happens in the loads
        for i in range(part):
            for k in range(2):
                halves = []
                for lane in (i, i + part):
                    at = builder.add(begin, builder.mul(step, ir.Constant(index, lane)))
                    at = builder.add(at, ir.Constant(index, k * part))
                    pointer = builder.bitcast(_pointer(context, builder, sig.args[0], src, at), short.as_pointer())
                    halves.append(builder.load(pointer, align=width))
                rows[i + k * part] = builder.shuffle_vector(*halves, join)
        half = part // 2
        while half:
            for i in range(LANES):
                if i & half:
                    continue
                a, b = rows[i], rows[i + half]
                low = [c if not c & half else LANES + c - half for c in range(LANES)]
                high = [c + half if not c & half else LANES + c for c in range(LANES)]
                rows[i] = builder.shuffle_vector(a, b, ir.Constant(pick, low))
                rows[i + half] = builder.shuffle_vector(a, b, ir.Constant(pick, high))
            half //= 2
        for k, row in enumerate(rows):
            at = builder.add(to, ir.Constant(index, k * LANES))
            if kind == types.float32:
                row = builder.fpext(row, _VEC)
            pointer = builder.bitcast(_pointer(context, builder, sig.args[3], dst, at), _VEC.as_pointer())
            builder.store(row, pointer, align=8)
        return context.get_dummy_value()

    return types.none(source, types.int64, types.int64, tile, types.int64), codegen


@intrinsic
def load_as_doubles(typingctx, array, index):
    """LANES consecutive numbers of a contiguous one-dimensional float32 or float64 array."""

    def codegen(context, builder, sig, args):
        kind = sig.args[0].dtype
        vector = ir.VectorType(context.get_data_type(kind), LANES)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], *args), vector.as_pointer())
        value = builder.load(pointer, align=4 if kind == types.float32 else 8)
        return builder.fpext(value, _VEC) if kind == types.float32 else value

    return VEC(array, types.int64), codegen


@intrinsic
def store_whole(typingctx, array, index, value):
    """Write LANES whole numbers into a contiguous one-dimensional int32 array."""

    def codegen(context, builder, sig, args):
        whole = ir.VectorType(ir.IntType(32), LANES)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], args[0], args[1]), whole.as_pointer())
        builder.store(builder.fptosi(args[2], whole), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.int64, VEC), codegen


@intrinsic
def store_counts(typingctx, array, index, value):
    """Write LANES whole numbers into a contiguous one-dimensional int64 array."""

    def codegen(context, builder, sig, args):
        whole = ir.VectorType(ir.IntType(64), LANES)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], args[0], args[1]), whole.as_pointer())
        builder.store(builder.fptosi(args[2], whole), pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.int64, VEC), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of an element, into the second cache; nothing happens when it lies outside."""

    def codegen(context, builder, sig, args):
        i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        fn = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], *args), byte)
        builder.call(fn, [pointer, ir.Constant(i32, 0), ir.Constant(i32, 2), ir.Constant(i32, 1)])
        return context.get_dummy_value()

    return types.none(array, types.int64), codegen


@intrinsic
def load_flags(typingctx, array, index):
    """Which of LANES consecutive bytes of a contiguous one-dimensional uint8 array are not 0."""

    def codegen(context, builder, sig, args):
        flags = ir.VectorType(ir.IntType(8), LANES)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], *args), flags.as_pointer())
        return builder.icmp_unsigned("!=", builder.load(pointer, align=1), ir.Constant(flags, [0] * LANES))

    return MASK(array, types.int64), codegen


@intrinsic
def add_bits(typingctx, array, index, value):
    """Add the bit patterns of LANES numbers to whole numbers of a contiguous one-dimensional int64 array."""

    def codegen(context, builder, sig, args):
        whole = ir.VectorType(ir.IntType(64), LANES)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], args[0], args[1]), whole.as_pointer())
        total = builder.add(builder.load(pointer, align=8), builder.bitcast(args[2], whole))
        builder.store(total, pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.int64, VEC), codegen


@intrinsic
def add_whole(typingctx, array, index, value):
    """Add LANES whole numbers to those of a contiguous one-dimensional int64 array."""

    def codegen(context, builder, sig, args):
        whole = ir.VectorType(ir.IntType(64), LANES)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], args[0], args[1]), whole.as_pointer())
        total = builder.add(builder.load(pointer, align=8), builder.fptosi(args[2], whole))
        builder.store(total, pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.int64, VEC), codegen
