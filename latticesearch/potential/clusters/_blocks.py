"""Blocks of four doubles for compiled loops over the species of a site.

A line of a table holds one number per species, padded to whole blocks; numba does not find out by
itself that such a line is one or two registers. Positions are counted in doubles; the arrays are
contiguous, and there is no check of bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

BLOCK = 4
"""Doubles in a block: one register of 256 bits."""

_VECTOR = ir.VectorType(ir.DoubleType(), BLOCK)


class BlockType(types.Type):  # type: ignore[misc]  # numba has no types
    """Numba's type of a block."""

    def __init__(self) -> None:
        super().__init__(name=f"Block({BLOCK})")


@register_model(BlockType)
class _BlockModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: BlockType) -> None:
        super().__init__(manager, kind, _VECTOR)


_BLOCK_TYPE = BlockType()


def _address(context: Any, builder: Any, kinds: Any, values: Any, array: int, position: int) -> Any:
    """Return the address of a block: the numbers of the arguments array and position."""
    data = context.make_array(kinds[array])(context, builder, values[array]).data
    index = context.cast(builder, values[position], kinds[position], types.intp)
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def load(_typing: Any, array: Any, at: Any) -> Any:
    """Return ``array[at : at + BLOCK]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, signature.args, values, 0, 1), align=8)

    return _BLOCK_TYPE(array, at), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(_typing: Any, array: Any, at: Any, block: Any) -> Any:
    """Write a block to ``array[at : at + BLOCK]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, signature.args, values, 0, 1), align=8)
        return context.get_dummy_value()

    return types.void(array, at, block), generate


@intrinsic  # type: ignore[untyped-decorator]
def plus_difference(_typing: Any, block: Any, lines: Any, new: Any, old: Any) -> Any:
    """Return ``block + lines[new : new + BLOCK] - lines[old : old + BLOCK]``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        one, other = (
            builder.load(_address(context, builder, signature.args, values, 1, k), align=8)
            for k in (2, 3)
        )
        return builder.fadd(values[0], builder.fsub(one, other))

    return _BLOCK_TYPE(block, lines, new, old), generate


@intrinsic  # type: ignore[untyped-decorator]
def item(_typing: Any, array: Any, at: Any) -> Any:
    """Return one number of an array, by its position in the whole; never counted from the end."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, values[0]).data
        index = context.cast(builder, values[1], signature.args[1], types.intp)
        return context.unpack_value(builder, kind.dtype, builder.gep(data, [index]))

    return array.dtype(array, at), generate
