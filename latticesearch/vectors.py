"""Vectors of a fixed number of doubles for compiled loops: many sites, or all species of one.

Numba has no type for a vector, and whether LLVM finds one in a loop depends on what it can prove
about the arrays. Here the vectors are asked for: each operation is one LLVM instruction on all
lanes, so a lane's result depends on that lane alone, wherever in a batch it stands. Processors
with narrower registers take several instructions for one. There are two lengths: `LANES`, for
loops over sites, and `BLOCK`, for lines of tables that hold one number per species.

Products and sums are fused where the processor can do that (``llvm.fmuladd``). There is no check
of bounds; positions are counted in doubles from the beginning of a contiguous array.

Nothing is compiled with ``fastmath``: that would let LLVM reorder sums, differently in different
loops, so that the last bits of an energy, and ties with them, depended on where a labeling stands.

What the signatures call ``Any`` are numba's types while a kernel is compiled. In a kernel, `array`
is a contiguous array of float64, a vector is (LANES,) and a block (BLOCK,) of them; units are those
of what the caller puts in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

if TYPE_CHECKING:
    Lanes = Any
    Block = Any

LANES = 16
"""Doubles in a vector: two registers of 512 bits, so that two sums run beside each other."""

BLOCK = 4
"""Doubles in a block, one register of 256 bits: most alloys have four species or fewer."""

SQUARE = 8
"""Rows and columns of the blocks that `transpose` turns."""

# Types of LLVM, made once: an intrinsic is generated anew in every kernel that uses it.
_DOUBLE = ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, LANES)


class VectorType(types.Type):  # type: ignore[misc]  # numba has no types
    """Numba's type of a vector of so many doubles."""

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(name=f"Vector({size})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, ir.VectorType(_DOUBLE, kind.size))


_LANES_TYPE = VectorType(LANES)
_BLOCK_TYPE = VectorType(BLOCK)


def _address(
    context: Any, builder: Any, kinds: Any, values: Any, size: int, at: tuple[int, int]
) -> Any:
    """Return the address of `size` doubles; `at`: which arguments are array and position."""
    array, position = at
    data = context.make_array(kinds[array])(context, builder, values[array]).data
    # Indices come in all integer types (lists of them are uint32, to fit into caches); addresses
    # are worked out in the processor's own.
    index = context.cast(builder, values[position], kinds[position], types.intp)
    # The pointer counts doubles until here, so a vector may begin at any of them.
    pointer = ir.VectorType(_DOUBLE, size).as_pointer()
    return builder.bitcast(builder.gep(data, [index]), pointer)


def _splat(builder: Any, value: Any) -> Any:
    """Return the vector whose lanes all hold a double."""
    # One lane set, then shuffled into all: the form that LLVM knows as a broadcast.
    first = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    pattern = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), pattern)


@intrinsic
def load(_typing: Any, array: Any, index: Any) -> Any:
    """Return ``array[index : index + LANES]`` of a contiguous array of doubles."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, signature.args, values, LANES, (0, 1))
        # Only doubles are promised to be aligned. Where whole vectors are (`aligned` of the
        # moment tensor potential), the same instruction is as fast as one for aligned data.
        return builder.load(address, align=8)

    return _LANES_TYPE(array, index), generate


@intrinsic
def store(_typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector to ``array[index : index + LANES]`` of a contiguous array of doubles."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, signature.args, values, LANES, (0, 1))
        builder.store(values[2], address, align=8)
        return context.get_dummy_value()

    return types.void(array, index, vector), generate


@intrinsic
def splat(_typing: Any, value: Any) -> Any:
    """Return the vector whose lanes all hold one double."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        double = context.cast(builder, values[0], signature.args[0], types.float64)
        return _splat(builder, double)

    return _LANES_TYPE(value), generate


@intrinsic
def times(_typing: Any, one: Any, other: Any) -> Any:
    """Return ``one * other``."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fmul(*values)

    return _LANES_TYPE(one, other), generate


@intrinsic
def plus(_typing: Any, one: Any, other: Any) -> Any:
    """Return ``one + other``."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fadd(*values)

    return _LANES_TYPE(one, other), generate


@intrinsic
def minus(_typing: Any, one: Any, other: Any) -> Any:
    """Return ``one - other``."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fsub(*values)

    return _LANES_TYPE(one, other), generate


@intrinsic
def times_plus(_typing: Any, one: Any, other: Any, summand: Any) -> Any:
    """Return ``one * other + summand``, rounded once where the processor can."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        # "fmuladd" leaves it to the processor whether it fuses. "fma" insists on one rounding and
        # becomes a call of a function for each lane where there is no such instruction.
        name = f"llvm.fmuladd.v{LANES}f64"
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, values)

    return _LANES_TYPE(one, other, summand), generate


@intrinsic
def total(_typing: Any, vector: Any) -> Any:
    """Return the sum of all lanes, added in halves."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        part, size = values[0], LANES
        # The order is fixed here, not left to LLVM, and each sum needs log2(LANES) steps only.
        while size > 1:
            size //= 2
            index = ir.VectorType(ir.IntType(32), size)
            halves = [
                builder.shuffle_vector(
                    part, part, ir.Constant(index, list(range(first, first + size)))
                )
                for first in (0, size)
            ]
            part = builder.fadd(*halves)
        return builder.extract_element(part, ir.Constant(ir.IntType(32), 0))

    return types.float64(vector), generate


@intrinsic
def transpose(_typing: Any, source: Any, index: Any, stride: Any, target: Any, at: Any) -> Any:
    """Write ``source[index + i * stride + j]`` to ``target[at + j * LANES + i]``, i, j < SQUARE.

    Rows of a table become lanes. Element by element that is SQUARE**2 loads and stores; here it is
    2 * SQUARE of them, and shuffles between registers.
    """
    row = ir.VectorType(_DOUBLE, SQUARE)
    half = SQUARE // 2
    picks = [
        [first + i // 2 + i % 2 * SQUARE for i in range(SQUARE)] for first in (0, half)
    ]  # of two rows: their first halves in turn, their second halves in turn

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def place(number: int, position: Any, i: int, step: Any) -> Any:
            """Return the address of row i of source or target, the argument of this number."""
            data = context.make_array(signature.args[number])(context, builder, values[number]).data
            offset = builder.add(position, builder.mul(ir.Constant(step.type, i), step))
            return builder.bitcast(builder.gep(data, [offset]), row.as_pointer())

        start, step, end = (
            context.cast(builder, values[n], signature.args[n], types.intp) for n in (1, 2, 4)
        )
        lanes = ir.Constant(step.type, LANES)
        # All rows are read before anything is written, so they fill one register each.
        rows = [builder.load(place(0, start, i, step), align=8) for i in range(SQUARE)]
        # Each round moves the highest bit of the row to the lowest of the column.
        for _ in range(SQUARE.bit_length() - 1):
            rows = [
                builder.shuffle_vector(
                    rows[i],
                    rows[i + half],
                    ir.Constant(ir.VectorType(ir.IntType(32), SQUARE), pick),
                )
                for i in range(half)
                for pick in picks
            ]
        # After so many rounds as an index has bits, rows have become columns.
        for i in range(SQUARE):
            builder.store(rows[i], place(3, end, i, lanes), align=8)
        return context.get_dummy_value()

    return types.void(source, index, stride, target, at), generate


@intrinsic
def load_block(_typing: Any, array: Any, at: Any) -> Any:
    """Return ``array[at : at + BLOCK]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, signature.args, values, BLOCK, (0, 1))
        return builder.load(address, align=8)

    return _BLOCK_TYPE(array, at), generate


@intrinsic
def store_block(_typing: Any, array: Any, at: Any, block: Any) -> Any:
    """Write a block to ``array[at : at + BLOCK]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, signature.args, values, BLOCK, (0, 1))
        builder.store(values[2], address, align=8)
        return context.get_dummy_value()

    return types.void(array, at, block), generate


@intrinsic
def plus_difference(_typing: Any, block: Any, lines: Any, new: Any, old: Any) -> Any:
    """Return ``block + lines[new : new + BLOCK] - lines[old : old + BLOCK]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        one, other = (
            builder.load(_address(context, builder, signature.args, values, BLOCK, (1, k)), align=8)
            for k in (2, 3)
        )
        # The difference first: a change and its reverse then add exactly opposite numbers.
        return builder.fadd(values[0], builder.fsub(one, other))

    return _BLOCK_TYPE(block, lines, new, old), generate


@intrinsic
def item(_typing: Any, array: Any, at: Any) -> Any:
    """Return one number of an array, by its position in the whole; never counted from the end."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0]
        # One load. Numba's own look-up tests whether an index is negative, and multiplies for each
        # further dimension.
        data = context.make_array(kind)(context, builder, values[0]).data
        index = context.cast(builder, values[1], signature.args[1], types.intp)
        return context.unpack_value(builder, kind.dtype, builder.gep(data, [index]))

    return array.dtype(array, at), generate
