"""Elk: all electrons, augmented plane waves, no stress."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from latticesearch.oracles.presets.preset import Preset, folder_of_datasets, one_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from latticesearch.oracles.presets.vocabulary import Wanted

COMMANDS = ("elk", "elk-lapw")
SPECIES = "/usr/share/elk-lapw/species"
"""Where Debian's package has them."""
SMEARINGS = {"methfessel-paxton": 1, "gaussian": 0, "fermi-dirac": 3}
"""stype."""
LADDER: tuple[dict[str, Any], ...] = (
    {"maxscl": 100},
    {"maxscl": 300, "mixtype": 1, "beta0": 0.02},
    {"maxscl": 500, "mixtype": 1, "beta0": 0.005, "betamax": 0.2},
)
"""What changes from attempt to attempt: steps, and linear mixing that adapts instead of Broyden."""
FIELD = 0.1
"""Field in the spheres, atomic units, that starts the moments; it fades from step to step."""


class Elk(Preset):
    """Elk. Its size of the basis is ``rgkmax``, not a cutoff."""

    name = "elk"
    needs = ("kspacing",)
    takes = Preset.takes - {"cutoff", "dispersion"}
    has_stress = False
    functionals: ClassVar[Mapping[str, str]] = {
        "PBE": "20",
        "LDA": "3",
        "REVPBE": "21",
        "PBESOL": "22",
    }
    smearings: ClassVar[Mapping[str, Any]] = SMEARINGS
    reserved = frozenset(
        {"xc", "xctype", "kpts", "ngridk", "vkloff", "stype", "swidth", "smearing", "spinpol"}
        | {"sppath", "species_dir", "tasks"}
    )

    def dataset_files(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, Path]:
        """Return the species file of each element."""
        folder = folder_of_datasets(wanted, self.name, SPECIES)
        return {
            symbol: one_file(folder, symbol, wanted.element(symbol).dataset, [f"{symbol}.in"])
            for symbol in symbols
        }

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return the blocks of elk.in, in atomic units."""
        from ase.units import Hartree

        inputs: dict[str, Any] = {
            "tasks": [0],
            "xctype": int(self.functionals[wanted.xc.upper()]),
            "ngridk": list(grid),
            "vkloff": [0.0, 0.0, 0.0],
            "stype": SMEARINGS[wanted.smearing],
            "swidth": wanted.width / Hartree,
            "rgkmax": 8.0,
            "nempty": 8.0,
            "epspot": 1e-6,
            "epsengy": 1e-5,
        }
        if wanted.spin != "none":
            inputs |= {"spinpol": True, "reducebf": 0.5}
        inputs |= _hubbard(wanted, list(dict.fromkeys(atoms.symbols)))
        return {**inputs, **LADDER[min(attempt, len(LADDER)) - 1], **wanted.parameters}

    def start_moments(self, moments: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the fields, atomic units, that ASE writes where others have moments.

        Moments turn against a field.
        """
        return -FIELD * np.sign(moments)

    def write_inputs(self, wanted: Wanted, inputs: Mapping[str, Any], atoms: Atoms) -> list[str]:
        """Write elk.in and links to the species files."""
        symbols = sorted(set(atoms.symbols))
        self.calculator(wanted, inputs, symbols).write_inputfiles(atoms, ["energy"])
        return ["elk.in", "species"]

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return ASE's Elk, with the species files named by element in the present folder."""
        from ase.calculators.elk import ELK, ElkProfile

        found = next((name for name in COMMANDS if shutil.which(name)), COMMANDS[0])
        folder = Path("species")
        folder.mkdir(exist_ok=True)
        for symbol, path in self.dataset_files(wanted, symbols).items():
            link = folder / f"{symbol}.in"
            if not link.exists():
                link.symlink_to(path)
        return ELK(profile=ElkProfile(wanted.command_line(found), sppath=folder.name), **inputs)

    def findings(self, calculator: Calculator) -> dict[str, Any]:
        """Return what stands in INFO.OUT; ASE has raised where it is not self-consistent."""
        from ase.units import Hartree

        text = Path("INFO.OUT").read_text(encoding="utf-8", errors="replace")
        version = re.search(r"Elk (?:code )?version (\S+)", text)
        found: dict[str, Any] = {"version": version[1] if version else None}
        changes = re.findall(r"change in total energy \(target\)\s*:\s*(\S+)", text)
        if changes:
            found["scf_residual"] = float(changes[-1]) * Hartree
        if moments := re.findall(r"total moment\s*:\s*(.+)", text):
            found["moment"] = float(moments[-1].split()[-1])
        if (spheres := _sphere_moments(text)) is not None:
            found["moments"] = spheres
        return found


def _sphere_moments(text: str) -> list[float] | None:
    """Return the last moments inside the spheres, in the order of elk.in; None without spin."""
    block = text[text.rfind("Moments :") :] if "Moments :" in text else ""
    moments = re.findall(
        r"^\s+atom\s+\d+\s*:\s*(.+)$", block.partition("interstitial")[2], re.MULTILINE
    )
    return [float(one.split()[-1]) for one in moments] or None


def _hubbard(wanted: Wanted, symbols: list[str]) -> dict[str, Any]:
    """Return the block of DFT+U in the fully localised limit: species, l, U and J in Hartree."""
    from ase.units import Hartree

    said = [(i + 1, wanted.element(symbol).hubbard) for i, symbol in enumerate(symbols)]
    lines = [[i, one.l, one.u / Hartree, one.j / Hartree] for i, one in said if one]
    return {"dft+u": [[1, 1], *lines]} if lines else {}
