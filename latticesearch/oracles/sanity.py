"""Whether the numbers of a calculation can be those of the structure that was asked for.

Total energies are never judged: all-electron gold has half a million eV per atom. What is refused
here is refused for every calculator, so the limits are far from anything that solids do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

MAX_FORCE = 1e3
"""Forces beyond this, eV/Å, are no forces between atoms: bonds break at some 5 eV/Å, and two
nuclei at half the length of a bond repel each other with less than 100."""
MAX_GROWTH = 4.0
"""Growth, or shrinking, of the volume that no relaxation at zero pressure explains: bonds longer
by 1.6 do not hold, and a guess of the lattice constant is never so wrong."""
SMALLEST_VOLUME = 5.0
"""Å³ per atom: nothing solid at zero pressure has less (diamond, the densest, has 5.7). A cell of
vacancies may shrink as far as that by any factor."""
MAX_STRETCH = 3.0
"""Stretch of the cell in one direction that no relaxation explains: from bcc to fcc it is 1.26."""


def what_is_wrong(start: Atoms, reply: Mapping[str, Any]) -> str | None:
    """Return why `reply` is no usable result, in one line; None if it is one.

    Parameters
    ----------
    start
        The structure before relaxation.
    reply
        What `latticesearch.oracles.calculation.compute` returned, or ``error``.
    """
    if "error" in reply:
        return str(reply["error"])
    return (
        _wrong_atoms(start, reply)
        or _wrong_shapes(len(start), reply)
        or _not_finite(reply)
        or _not_converged(reply)
        or _absurd_forces(reply)
        or _absurd_cell(start, reply)
    )


def _wrong_atoms(start: Atoms, reply: Mapping[str, Any]) -> str | None:
    numbers = list(reply["numbers"])
    if len(numbers) != len(start):
        return f"the calculator changed the number of atoms from {len(start)} to {len(numbers)}"
    if numbers != start.numbers.tolist():
        return "the calculator changed the species of atoms"
    return None


def _wrong_shapes(n_atoms: int, reply: Mapping[str, Any]) -> str | None:
    expected = {"forces": (n_atoms, 3), "stress": (6,), "positions": (n_atoms, 3), "cell": (3, 3)}
    for name, shape in expected.items():
        if reply[name] is not None and (found := np.shape(reply[name])) != shape:
            return f"the calculator returned {name} of shape {found} instead of {shape}"
    return None


def _not_finite(reply: Mapping[str, Any]) -> str | None:
    for name in ("energy", "forces", "stress", "positions", "cell"):
        if reply[name] is not None and not np.isfinite(reply[name]).all():
            return f"the calculator returned a number that is not finite ({name})"
    return None


def _not_converged(reply: Mapping[str, Any]) -> str | None:
    if reply["converged"]:
        return None
    why = f"; {reply['reason']}" if reply.get("reason") else ""
    return f"not converged in {reply['steps']} steps: residual {reply['residual']:.3g} eV/Å{why}"


def _absurd_forces(reply: Mapping[str, Any]) -> str | None:
    if reply["forces"] is None or not len(reply["forces"]):
        return None
    largest = float(np.linalg.norm(reply["forces"], axis=1).max())
    return f"a force of {largest:.3g} eV/Å is absurd" if largest > MAX_FORCE else None


def _absurd_cell(start: Atoms, reply: Mapping[str, Any]) -> str | None:
    before = np.array(start.cell)
    if not np.linalg.det(before):
        return None
    deformation = np.linalg.solve(before, np.array(reply["cell"]))
    growth = float(np.linalg.det(deformation))
    volume = abs(float(np.linalg.det(before))) * growth / max(len(start), 1)
    if growth <= 0:
        return "the cell has turned inside out"
    if growth > MAX_GROWTH or (growth < 1 / MAX_GROWTH and volume < SMALLEST_VOLUME):
        return f"the volume went from {volume / growth:.3g} to {volume:.3g} Å³/atom: absurd"
    stretch = float(np.linalg.svd(deformation, compute_uv=False).max())
    if stretch > MAX_STRETCH:
        return f"the cell was stretched by a factor of {stretch:.3g} in one direction: absurd"
    return None
