"""Moments from which calculations start: all up, and up and down in planes.

A calculation that starts without moments ends without them, whatever the code is told of spin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.oracles.presets.vocabulary import Wanted

START_MOMENTS = {"Cr": 2.0, "Mn": 4.0, "Fe": 3.0, "Co": 2.0, "Ni": 1.0}
"""Bohr magnetons per atom: a little above what these metals have, so that no state of high spin
is missed. Others start without a moment unless the campaign gives one."""
SAME_PLANE = 1e-3
"""Difference of fractional coordinates within which atoms are in one plane."""

FERROMAGNETIC = "ferromagnetic"


def start_moment(symbol: str, wanted: Wanted) -> float:
    """Return the moment of an atom of an element at the start, Bohr magnetons."""
    said = wanted.element(symbol).moment
    return START_MOMENTS.get(symbol, 0.0) if said is None else said


def check_moments(symbols: Iterable[str], wanted: Wanted) -> None:
    """Raise if a calculation with spin would start without any moment.

    Raises
    ------
    InputError
        No element has a moment.
    """
    symbols = list(symbols)
    if wanted.spin != "none" and not any(start_moment(one, wanted) for one in symbols):
        raise InputError(
            f'oracle.spin = "{wanted.spin}", but no element has a moment to start with and without '
            f"one none is found; give one: [oracle.elements.{symbols[0]}] moment = 1.0"
        )


def forgotten_spin(symbols: Iterable[str], wanted: Wanted) -> list[str]:
    """Return the magnetic elements of a campaign that computes without spin."""
    return [one for one in symbols if one in START_MOMENTS] if wanted.spin == "none" else []


def orders(atoms: Atoms, wanted: Wanted) -> dict[str, npt.NDArray[np.float64] | None]:
    """Return the moments, (n_atoms,), to start from, by the name of the order.

    Without spin that is one start without moments. Antiferromagnetic orders alternate from plane to
    plane of magnetic atoms along one lattice vector of the cell; the cell is not enlarged for them.
    """
    if wanted.spin == "none":
        return {"none": None}
    moments = np.array([start_moment(symbol, wanted) for symbol in atoms.symbols])
    found: dict[str, npt.NDArray[np.float64] | None] = {FERROMAGNETIC: moments}
    if wanted.spin == "antiferromagnetic":
        seen: set[bytes] = set()
        for axis, name in enumerate("abc"):
            signs = _alternating(atoms.get_scaled_positions()[:, axis], moments != 0)
            if signs is not None and signs.tobytes() not in seen:
                seen.add(signs.tobytes())
                found[f"antiferromagnetic along {name}"] = moments * signs
    return found


def _alternating(
    heights: npt.NDArray[np.float64], magnetic: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64] | None:
    """Return signs, (n_atoms,), that change from plane to plane; None where all planes are alike.

    An odd number of planes does not alternate around the cell.
    """
    rounded = np.rint(heights / SAME_PLANE) % round(1.0 / SAME_PLANE)
    planes = np.unique(rounded[magnetic])
    if len(planes) < 2 or len(planes) % 2:
        return None
    signs = np.ones(len(heights))
    signs[magnetic] = 1.0 - 2.0 * (np.searchsorted(planes, rounded[magnetic]) % 2)
    result: npt.NDArray[np.float64] = signs * signs[magnetic][0]
    return result
