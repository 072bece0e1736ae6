"""Quantum ESPRESSO's pw.x through ASE."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latticesearch.errors import InputError
from latticesearch.oracles.presets.preset import (
    NotConverged,
    Preset,
    folder_of_datasets,
    one_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from latticesearch.oracles.presets.vocabulary import Wanted

COMMAND = "pw.x"
SMEARINGS = {
    "methfessel-paxton": "mp",
    "marzari-vanderbilt": "mv",
    "fermi-dirac": "fd",
    "gaussian": "gauss",
}
DENSITY = 8.0
"""Cutoff of the density in units of that of the wave functions: ultrasoft and PAW data need more
than the four of norm-conserving ones."""
LADDER: tuple[dict[str, Any], ...] = (
    {"mixing_beta": 0.4, "electron_maxstep": 100},
    {"mixing_beta": 0.15, "mixing_ndim": 12, "electron_maxstep": 300},
    {"mixing_beta": 0.1, "mixing_mode": "local-TF", "electron_maxstep": 500}
    | {"diagonalization": "cg"},
)
"""What changes from attempt to attempt in &ELECTRONS: mixing, steps, diagonaliser."""
PRESSURE = 0.5
"""kbar at which a cell is relaxed: its energy is then within some 0.01 meV/atom of the lowest."""
SECTIONS = ("control", "system", "electrons")


class Espresso(Preset):
    """Quantum ESPRESSO.

    ``parameters`` are tables of the namelists, ``{ system = { ecutrho = 4800 }, electrons = {} }``.
    """

    name = "espresso"
    functionals: ClassVar[Mapping[str, str]] = {
        "PBE": "",
        "PBESOL": "PBESOL",
        "REVPBE": "REVPBE",
        "RPBE": "RPBE",
        "LDA": "PZ",
        "SCAN": "SCAN",
    }
    smearings: ClassVar[Mapping[str, Any]] = SMEARINGS
    dispersions: ClassVar[Mapping[str, int]] = {"d3": 3, "d3bj": 4}

    def check(self, wanted: Wanted, symbols: Iterable[str]) -> None:
        """Raise if a campaign asks for what the code does not do, or data sets are missing."""
        strange = sorted(set(wanted.parameters) - {*SECTIONS, "additional_cards"})
        if strange:
            raise InputError(
                f"oracle.parameters.{strange[0]}: for espresso these are tables of namelists, "
                "e.g. parameters = { system = { nbnd = 20 } }"
            )
        super().check(wanted, symbols)

    def dataset_files(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, Path]:
        """Return the UPF file of each element."""
        folder = folder_of_datasets(wanted, self.name)
        return {symbol: _upf(folder, symbol, wanted) for symbol in symbols}

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return the keyword arguments of ASE's Espresso: namelists, files, k-points."""
        from ase.units import Ry

        assert wanted.cutoff is not None
        symbols = sorted(set(atoms.symbols))
        system: dict[str, Any] = {
            "ecutwfc": wanted.cutoff / Ry,
            "ecutrho": DENSITY * wanted.cutoff / Ry,
            "occupations": "smearing",
            "smearing": SMEARINGS[wanted.smearing],
            "degauss": wanted.width / Ry,
        }
        if functional := self.functionals[wanted.xc.upper()]:
            system["input_dft"] = functional
        if wanted.dispersion:
            system |= {"vdw_corr": "dft-d3", "dftd3_version": self.dispersions[wanted.dispersion]}
        if wanted.spin != "none":
            system["nspin"] = 2
        control = {"calculation": "scf", "tprnfor": True, "tstress": True, "outdir": "scratch"}
        electrons = {"conv_thr": 1e-8 * len(atoms), **LADDER[min(attempt, len(LADDER)) - 1]}
        said = wanted.parameters
        namelists = {"control": control, "system": system, "electrons": electrons}
        inputs: dict[str, Any] = {
            "input_data": {name: {**one, **said.get(name, {})} for name, one in namelists.items()},
            "pseudopotentials": {s: p.name for s, p in self.dataset_files(wanted, symbols).items()},
            "kpts": list(grid),
            "koffset": [0, 0, 0],
        }
        cards = [*_hubbard(wanted, symbols), *said.get("additional_cards", [])]
        return {**inputs, **({"additional_cards": cards} if cards else {})}

    def relaxing(
        self, inputs: Mapping[str, Any], *, cell: bool, ions: bool, fmax: float, max_steps: int
    ) -> dict[str, Any] | None:
        """Return the inputs of a relaxation; pw.x does not relax the cell alone."""
        if not ions:
            return None
        from ase.units import Bohr, Ry

        said = inputs["input_data"]
        control = {
            **said["control"],
            "calculation": "vc-relax" if cell else "relax",
            "nstep": max_steps,
            "forc_conv_thr": fmax * Bohr / Ry,
        }
        dynamics: dict[str, Any] = {"ions": {"ion_dynamics": "bfgs"}}
        if cell:
            dynamics["cell"] = {"cell_dynamics": "bfgs", "press_conv_thr": PRESSURE}
        return {**inputs, "input_data": {**said, "control": control, **dynamics}}

    def write_inputs(self, wanted: Wanted, inputs: Mapping[str, Any], atoms: Atoms) -> list[str]:
        """Write pw.in."""
        symbols = sorted(set(atoms.symbols))
        self.calculator(wanted, inputs, symbols).write_inputfiles(atoms, ["energy"])
        Path("espresso.pwi").rename("pw.in")
        return ["pw.in"]

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return ASE's Espresso."""
        from ase.calculators.espresso import Espresso as AseEspresso
        from ase.calculators.espresso import EspressoProfile

        folder = folder_of_datasets(wanted, self.name)
        profile = EspressoProfile(command=wanted.command_line(COMMAND), pseudo_dir=str(folder))
        return AseEspresso(profile=profile, **inputs)

    def findings(self, calculator: Calculator) -> dict[str, Any]:
        """Return what stands in the output of pw.x."""
        text = Path("espresso.pwo").read_text(encoding="utf-8", errors="replace")
        if "convergence has been achieved" not in text:
            raise NotConverged("pw.x did not become self-consistent in electron_maxstep steps")
        from ase.units import Ry

        version = re.search(r"Program PWSCF v\.(\S+)", text)
        found: dict[str, Any] = {"version": version[1] if version else None}
        if accuracies := re.findall(r"estimated scf accuracy\s+<\s+(\S+) Ry", text):
            found["scf_residual"] = float(accuracies[-1]) * Ry
        if moments := re.findall(r"total magnetization\s+=\s+(\S+) Bohr", text):
            found["moment"] = float(moments[-1])
            sites = re.findall(r"magn(?::|=)\s*(-?\d+\.\d+)", text)
            found["moments"] = [float(one) for one in sites[-len(calculator.atoms) :]]
        return found


def _upf(folder: Path, symbol: str, wanted: Wanted) -> Path:
    names = (symbol, symbol.lower())
    patterns = [f"{n}{rest}.[uU][pP][fF]" for n in names for rest in ("", "[._-]*")]
    return one_file(folder, symbol, wanted.element(symbol).dataset, patterns)


def _hubbard(wanted: Wanted, symbols: Iterable[str]) -> list[str]:
    """Return the card HUBBARD of versions from 7.1 on."""
    lines = [
        f"U {symbol}-{_shell(symbol, one.l)} {one.u - one.j:g}"
        for symbol in symbols
        if (one := wanted.element(symbol).hubbard) is not None
    ]
    return ["HUBBARD (ortho-atomic)", *lines] if lines else []


def _shell(symbol: str, angular: int) -> str:
    """Return the localised shell of an element, such as 3d."""
    from ase.data import atomic_numbers

    number = atomic_numbers[symbol]
    if angular == 2:
        principal = 3 + (number > 38) + (number > 56)
    elif angular == 3:
        principal = 4 + (number > 88)
    else:
        principal = 2 + (number > 10) + (number > 18) + (number > 36) + (number > 54)
    return f"{principal}{'spdf'[angular]}"
