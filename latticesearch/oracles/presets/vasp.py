"""VASP through ASE: one single point per step, in the folder of the calculation."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latticesearch.errors import InputError
from latticesearch.oracles.presets.preset import NotConverged, Preset, digest, folder_of_datasets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from latticesearch.oracles.presets.vocabulary import Wanted

COMMAND = "vasp_std"
SMEARINGS = {"methfessel-paxton": 1, "gaussian": 0, "fermi-dirac": -1}
"""ISMEAR."""
LADDER: tuple[dict[str, Any], ...] = (
    {"algo": "Normal", "nelm": 100},
    {"algo": "All", "nelm": 200, "amix": 0.1, "bmix": 0.01},
    {"algo": "Normal", "nelm": 400, "amix": 0.02, "bmix": 0.0001},
)
"""What changes from attempt to attempt: the diagonaliser, the mixing of densities, the steps."""


class Vasp(Preset):
    """VASP."""

    name = "vasp"
    functionals: ClassVar[Mapping[str, str]] = {
        "PBE": "pbe",
        "PBESOL": "pbesol",
        "RPBE": "rpbe",
        "REVPBE": "revpbe",
        "LDA": "lda",
        "SCAN": "scan",
        "R2SCAN": "r2scan",
    }
    smearings: ClassVar[Mapping[str, Any]] = SMEARINGS
    dispersions: ClassVar[Mapping[str, int]] = {"d3": 11, "d3bj": 12}
    reserved = frozenset(
        {"xc", "encut", "kpts", "kspacing", "gamma", "ismear", "sigma", "ispin", "magmom"}
        | {"setups", "pp", "command", "directory", "ldau_luj", "ivdw", "ibrion", "nsw", "isif"}
    )

    def dataset_files(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, Path]:
        """Return the POTCAR of each element: FOLDER/NAME/POTCAR, by default under its symbol."""
        folder, files = folder_of_datasets(wanted, self.name), {}
        for symbol in symbols:
            name = wanted.element(symbol).dataset or symbol
            if not name.startswith(symbol):
                raise InputError(f"oracle.elements.{symbol}.dataset: {name!r} is none of {symbol}")
            path = folder / name / "POTCAR"
            if not path.is_file():
                raise InputError(
                    f"oracle.datasets: there is no {path}; name another: "
                    f'[oracle.elements.{symbol}] dataset = "{symbol}_pv"'
                )
            files[symbol] = path
        return files

    def datasets(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return title and SHA-256 of each POTCAR."""
        found = {}
        for symbol, path in self.dataset_files(wanted, symbols).items():
            with path.open(encoding="utf-8", errors="replace") as file:
                title = file.readline().strip()
            found[symbol] = {"file": path.parent.name, "title": title, "sha256": digest(path)}
        return found

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return the keyword arguments of ASE's Vasp: INCAR tags in small letters, and a grid."""
        symbols = sorted(set(atoms.symbols))
        inputs: dict[str, Any] = {
            "xc": self.functionals[wanted.xc.upper()],
            "encut": wanted.cutoff,
            "kpts": list(grid),
            "gamma": True,
            "ismear": SMEARINGS[wanted.smearing],
            "sigma": wanted.width,
            "prec": "Accurate",
            "ediff": 1e-6,
            "lreal": False,
            "ibrion": -1,
            "nsw": 0,
            "isif": 2,
            "lwave": False,
            "lcharg": False,
            # Aspherical parts inside the spheres: without them meta-GGA energies are wrong.
            "lasph": True,
            "setups": {s: (wanted.element(s).dataset or s).removeprefix(s) for s in symbols},
        }
        if wanted.dispersion:
            inputs["ivdw"] = self.dispersions[wanted.dispersion]
        if wanted.spin != "none":
            # Without LORBIT no moments of atoms are written.
            inputs |= {"ispin": 2, "lorbit": 11}
        else:
            inputs["ispin"] = 1
        inputs |= _hubbard(wanted, symbols)
        return {**inputs, **LADDER[min(attempt, len(LADDER)) - 1], **wanted.parameters}

    def relaxing(
        self, inputs: Mapping[str, Any], *, cell: bool, ions: bool, fmax: float, max_steps: int
    ) -> dict[str, Any]:
        """Return the inputs with IBRION, ISIF, NSW and EDIFFG."""
        isif = {(True, True): 3, (True, False): 6, (False, True): 2}[cell, ions]
        steps = {"ibrion": 2, "isif": isif, "nsw": max_steps, "ediffg": -fmax}
        return {**inputs, **steps}

    def write_inputs(self, wanted: Wanted, inputs: Mapping[str, Any], atoms: Atoms) -> list[str]:
        """Write INCAR, KPOINTS, POSCAR and POTCAR."""
        self._calculator(wanted, inputs).write_input(atoms)
        # In the order of POSCAR the atoms are sorted by species; nobody here undoes it.
        Path("ase-sort.dat").unlink(missing_ok=True)
        return ["INCAR", "KPOINTS", "POSCAR", "POTCAR"]

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return ASE's Vasp."""
        program = wanted.command_line(COMMAND).split()[0]
        if shutil.which(program) is None:
            raise FileNotFoundError(f"there is no program {program}")
        return self._calculator(wanted, inputs)

    def _calculator(self, wanted: Wanted, inputs: Mapping[str, Any]) -> Any:
        from ase.calculators.vasp import Vasp as AseVasp

        folder = folder_of_datasets(wanted, self.name)
        # ASE looks for FOLDER/NAME below this variable, and has no argument for it.
        os.environ["VASP_PP_PATH"] = str(folder.parent)
        command = wanted.command_line(COMMAND)
        return AseVasp(**{**inputs, "pp": folder.name}, command=command, txt="vasp.out")

    def findings(self, calculator: Calculator) -> dict[str, Any]:
        """Return what stands in OUTCAR and OSZICAR."""
        if not calculator.converged:
            raise NotConverged("VASP did not become self-consistent in NELM steps")
        found: dict[str, Any] = {"version": calculator.version}
        changes = _OSZICAR.findall(Path("OSZICAR").read_text(encoding="utf-8", errors="replace"))
        if changes:
            found["scf_residual"] = abs(float(changes[-1]))
        if calculator.int_params["ispin"] == 2:
            found["moments"] = [float(one) for one in calculator.results["magmoms"]]
            found["moment"] = float(calculator.results["magmom"])
        return found


_OSZICAR = re.compile(r"^[A-Z]{3}:\s+\d+\s+\S+\s+(\S+)", re.MULTILINE)


def _hubbard(wanted: Wanted, symbols: Iterable[str]) -> dict[str, Any]:
    """Return the tags of DFT+U after Dudarev, for the elements of one structure."""
    table = {
        symbol: {"L": one.l, "U": one.u, "J": one.j}
        for symbol in symbols
        if (one := wanted.element(symbol).hubbard) is not None
    }
    if not table:
        return {}
    highest = max(one["L"] for one in table.values())
    return {"ldau_luj": table, "ldautype": 2, "lmaxmix": 2 * highest}
