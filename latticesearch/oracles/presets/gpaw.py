"""GPAW: plane waves and PAW data sets from PyPI, run inside the worker process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from latticesearch.oracles.presets.operations import paying_rotations
from latticesearch.oracles.presets.preset import Preset
from latticesearch.oracles.presets.vocabulary import ORBITALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from latticesearch.oracles.presets.vocabulary import Wanted

OUTPUT = "gpaw.txt"
CONVERGENCE = {"eigenstates": 1e-5, "density": 1e-3, "energy": 1e-4}
"""Enough for 0.1 meV/atom in metals of the transition series; GPAW's own are made for forces."""
SMEARINGS: dict[str, dict[str, Any]] = {
    "methfessel-paxton": {"name": "methfessel-paxton", "order": 1},
    "marzari-vanderbilt": {"name": "marzari-vanderbilt"},
    "fermi-dirac": {"name": "fermi-dirac"},
    # GPAW has no Gaussian smearing by name.
    "gaussian": {"name": "methfessel-paxton", "order": 0},
}
LADDER: tuple[dict[str, Any], ...] = (
    {},
    {"mixer": {"beta": 0.02, "nmaxold": 5, "weight": 100.0}, "maxiter": 600},
    {
        "eigensolver": {"name": "dav", "niter": 3},
        "mixer": {"beta": 0.02, "nmaxold": 3, "weight": 50.0},
        "maxiter": 1000,
        # Where symmetry and an uneven grid clash, its analysis ends with an error.
        "symmetry": {"point_group": False},
    },
)
"""What changes from attempt to attempt: slower mixing, another diagonaliser, no symmetry."""


class Gpaw(Preset):
    """GPAW."""

    name = "gpaw"
    takes = Preset.takes - {"command", "datasets", "dispersion"}
    smearings: ClassVar[Mapping[str, Any]] = SMEARINGS
    reserved = frozenset({"mode", "xc", "kpts", "occupations", "spinpol", "setups", "txt"})

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return the keyword arguments of GPAW."""
        assert wanted.cutoff is not None
        inputs: dict[str, Any] = {
            "mode": {"name": "pw", "ecut": wanted.cutoff},
            "xc": wanted.xc,
            "kpts": {"size": list(grid), "gamma": True},
            "occupations": {**SMEARINGS[wanted.smearing], "width": wanted.width},
            "convergence": dict(CONVERGENCE),
        }
        setups = {s: one for s in sorted(set(atoms.symbols)) if (one := _setup(wanted, s))}
        if setups:
            inputs["setups"] = setups
        if wanted.spin != "none":
            inputs["spinpol"] = True
        elif (rotations := paying_rotations(atoms, wanted.cutoff, grid)) is not None:
            inputs["symmetry"] = {"rotations": rotations}
        return {**inputs, **LADDER[min(attempt, len(LADDER)) - 1], **wanted.parameters}

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return a GPAW calculator that appends to its log: it writes one at every step."""
        from gpaw import GPAW

        return GPAW(**inputs, txt=Path(OUTPUT).open("a", encoding="utf-8"))

    def findings(self, calculator: Calculator) -> dict[str, Any]:
        """Return what GPAW says of itself and in its log; it has raised if it did not converge."""
        import gpaw

        log = Path(OUTPUT).read_text(encoding="utf-8", errors="replace")
        found: dict[str, Any] = {"version": gpaw.__version__, "datasets": _fingerprints(log)}
        energies = [float(value) for value in _ENERGY.findall(log)]
        if len(energies) > 1:
            found["scf_residual"] = abs(energies[-1] - energies[-2])
        moments = np.atleast_1d(calculator.results.get("magmoms", 0.0))
        if moments.any():
            found["moments"] = [float(one) for one in moments]
            found["moment"] = float(calculator.results["magmom"])
        return found


_LINES = re.MULTILINE | re.DOTALL
_ENERGY = re.compile(r"iter:\s+\d+[ |]+[\d:]+[ |]+(-?\d+\.\d+)")


def _setup(wanted: Wanted, symbol: str) -> str | None:
    """Return what GPAW's ``setups`` has for an element: "name:orbital,U"."""
    element = wanted.element(symbol)
    if element.hubbard is None:
        return element.dataset
    return (
        f"{element.dataset or 'paw'}:{ORBITALS[element.hubbard.l]},"
        f"{element.hubbard.u - element.hubbard.j:g}"
    )


def _fingerprints(log: str) -> dict[str, dict[str, str]]:
    """Return file and fingerprint (MD5) of the data sets that GPAW has read, from its log."""
    found: dict[str, dict[str, str]] = {}
    for ident, file in re.findall(r"^\s*id:\s+([0-9a-f]{32}).*?^\s*file:\s+(\S+)", log, _LINES):
        name = Path(file).name
        found[name.partition(".")[0]] = {"file": name, "md5": ident}
    return found
