"""ABINIT through ASE; it reads PAW data in XML, those of GPAW included."""

from __future__ import annotations

import gzip
import re
import shutil
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

COMMAND = "abinit"
SMEARINGS = {"methfessel-paxton": 6, "marzari-vanderbilt": 4, "fermi-dirac": 3, "gaussian": 7}
"""occopt."""
LADDER: tuple[dict[str, Any], ...] = (
    {"nstep": 60},
    {"nstep": 150, "diemix": 0.3},
    {"nstep": 300, "diemix": 0.1, "iscf": 17, "nline": 8},
)
"""What changes from attempt to attempt: steps, mixing, lines of the diagonaliser."""
FOLDER = "datasets"


class Abinit(Preset):
    """ABINIT."""

    name = "abinit"
    functionals: ClassVar[Mapping[str, str]] = {
        "PBE": "11",
        "LDA": "7",
        "REVPBE": "14",
        "RPBE": "15",
        "PBESOL": "-116133",
    }
    smearings: ClassVar[Mapping[str, Any]] = SMEARINGS
    dispersions: ClassVar[Mapping[str, int]] = {"d3": 6, "d3bj": 7}
    reserved = frozenset(
        {"xc", "ixc", "ecut", "ngkpt", "kpts", "shiftk", "nshiftk", "kptopt", "occopt", "tsmear"}
        | {"nsppol", "spinat", "pps", "vdw_xc", "ionmov", "optcell"}
    )

    def check(self, wanted: Wanted, symbols: Iterable[str]) -> None:
        """Raise if a campaign asks for what the code does not do, or data sets are missing."""
        symbols = list(symbols)
        super().check(wanted, symbols)
        kinds = {_kind(path) for path in self.dataset_files(wanted, symbols).values()}
        if len(kinds) > 1:
            raise InputError("oracle.datasets: PAW and norm-conserving data cannot be mixed")
        if any(wanted.element(s).hubbard for s in symbols) and kinds != {"pawxml"}:
            raise InputError("oracle.elements: abinit has hubbard with PAW data only")

    def dataset_files(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, Path]:
        """Return the data of each element: .xml (PAW) or .psp8, or GPAW's Mo.PBE.gz."""
        folder = folder_of_datasets(wanted, self.name)
        return {symbol: _data(folder, symbol, wanted) for symbol in symbols}

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return the variables of ABINIT; energies in eV, which ASE writes with their unit."""
        assert wanted.cutoff is not None
        # ASE numbers the types in the order of the atomic numbers.
        symbols = [a.symbol for a in sorted(atoms, key=lambda a: a.number)]
        symbols = list(dict.fromkeys(symbols))
        kind = _kind(next(iter(self.dataset_files(wanted, symbols[:1]).values())))
        inputs: dict[str, Any] = {
            "pps": kind,
            "ixc": int(self.functionals[wanted.xc.upper()]),
            "ecut": wanted.cutoff,
            "kptopt": 1,
            "ngkpt": list(grid),
            "nshiftk": 1,
            "shiftk": [0.0, 0.0, 0.0],
            "chksymbreak": 0,
            "occopt": SMEARINGS[wanted.smearing],
            "tsmear": wanted.width,
            "toldfe": 1e-7 * len(atoms),
            "optforces": 1,
            "optstress": 1,
            "prtwf": 0,
            "prtden": 0,
        }
        if kind == "pawxml":
            inputs["pawecutdg"] = 2.4 * wanted.cutoff
        if wanted.dispersion:
            inputs["vdw_xc"] = self.dispersions[wanted.dispersion]
        if wanted.spin == "none":
            inputs["nsppol"] = 1
        inputs |= _hubbard(wanted, symbols)
        return {**inputs, **LADDER[min(attempt, len(LADDER)) - 1], **wanted.parameters}

    def write_inputs(self, wanted: Wanted, inputs: Mapping[str, Any], atoms: Atoms) -> list[str]:
        """Write abinit.in and the data sets, unpacked."""
        symbols = sorted(set(atoms.symbols))
        self.calculator(wanted, inputs, symbols).write_inputfiles(atoms, ["energy"])
        return ["abinit.in", FOLDER]

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return ASE's Abinit, with the data sets under short names in the present folder."""
        from ase.calculators.abinit import Abinit as AseAbinit
        from ase.calculators.abinit import AbinitProfile

        folder = Path(FOLDER)
        folder.mkdir(exist_ok=True)
        for symbol, path in self.dataset_files(wanted, symbols).items():
            # The names by which ASE looks for them.
            suffix = {"pawxml": ".data.xml"}.get(str(inputs["pps"]), ".psp8")
            _unpack(path, folder / f"{symbol}{suffix}")
        profile = AbinitProfile(command=wanted.command_line(COMMAND), pp_paths=[FOLDER])
        return AseAbinit(profile=profile, **inputs)

    def findings(self, calculator: Calculator) -> dict[str, Any]:
        """Return what stands in the output of ABINIT."""
        from ase.units import Hartree

        text = Path("abinit.abo").read_text(encoding="utf-8", errors="replace")
        # ASE has raised where there were too few steps for self-consistency.
        if "was not enough scf cycles" in text.lower():
            raise NotConverged("ABINIT did not become self-consistent in nstep steps")
        version = re.search(r"\.Version\s+(\S+)\s+of ABINIT", text)
        found: dict[str, Any] = {"version": version[1] if version else None}
        if changes := re.findall(r"^\s*ETOT\s+\d+\s+\S+\s+(\S+)", text, re.MULTILINE):
            found["scf_residual"] = abs(float(changes[-1])) * Hartree
        if moments := re.findall(r"[Mm]agnetization \(?\w*.*?=\s*(-?\d\S*)", text):
            found["moment"] = float(moments[-1])
        return found


def _data(folder: Path, symbol: str, wanted: Wanted) -> Path:
    xc = wanted.xc.upper()
    patterns = [f"{symbol}.xml", f"{symbol}.*.xml", f"{symbol}.psp8", f"{symbol}[._-]*.psp8"]
    return one_file(
        folder, symbol, wanted.element(symbol).dataset, [*patterns, f"{symbol}.{xc}.gz"]
    )


def _kind(path: Path) -> str:
    """Return what ASE calls the format of a data set."""
    return "psp8" if path.name.endswith(".psp8") else "pawxml"


def _unpack(path: Path, target: Path) -> None:
    """Put a data set, compressed or not, where ABINIT finds it."""
    if target.exists():
        return
    if path.suffix != ".gz":
        target.symlink_to(path)
        return
    with gzip.open(path, "rb") as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file)


def _hubbard(wanted: Wanted, symbols: Iterable[str]) -> dict[str, Any]:
    """Return the variables of DFT+U, one value per type of atom."""
    said = [wanted.element(symbol).hubbard for symbol in symbols]
    if not any(said):
        return {}
    return {
        "usepawu": 1,
        "lpawu": [-1 if one is None else one.l for one in said],
        "upawu": [0.0 if one is None else one.u for one in said] + ["eV"],
        "jpawu": [0.0 if one is None else one.j for one in said] + ["eV"],
    }
