"""Blocks of four doubles for compiled loops over the species of a site.

A line of a table holds one number per species, padded to whole blocks; numba does not find out by
itself that such a line is one or two registers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BLOCK = 4
"""Doubles in a block: one register of 256 bits."""

_VECTOR = ir.VectorType(ir.DoubleType(), BLOCK)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return the address of the block that begins at a position of a contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def add_difference(_typing: Any, target: Any, at: Any, lines: Any, new: Any, old: Any) -> Any:
    """Add ``lines[new : new + BLOCK] - lines[old : old + BLOCK]`` to ``target[at : at + BLOCK]``.

    Both are contiguous arrays of doubles, positions are counted in doubles; there is no check of
    bounds.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        places = [context.cast(builder, values[k], kinds[k], types.intp) for k in (1, 3, 4)]
        to = _address(context, builder, kinds[0], values[0], places[0])
        one, other = (
            builder.load(_address(context, builder, kinds[2], values[2], place), align=8)
            for place in places[1:]
        )
        moved = builder.fadd(builder.load(to, align=8), builder.fsub(one, other))
        builder.store(moved, to, align=8)
        return context.get_dummy_value()

    return types.void(target, at, lines, new, old), generate
