"""What a preset is: a code's name, what it understands, and how it is told and read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latticesearch.errors import InputError
from latticesearch.oracles.presets.magnetism import check_moments, forgotten_spin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from latticesearch.oracles.presets.vocabulary import Wanted

EVERYTHING = frozenset(
    {"xc", "cutoff", "kspacing", "smearing", "spin", "dispersion", "elements", "datasets"}
    | {"command", "parameters"}
)
"""All words of the vocabulary, as a campaign file spells them."""


class NotConverged(RuntimeError):  # noqa: N818 - what it says of a calculation
    """The cycle of self-consistency ended before its threshold was reached."""


class Preset:
    """One code.

    Attributes
    ----------
    name
        What a campaign file calls it.
    needs, takes
        Words of the vocabulary that must be, and may be, said.
    functionals
        Names of functionals in the vocabulary (in capitals), and the code's own; where it is
        empty any name is passed on.
    smearings, dispersions
        The same of smearings and of corrections for dispersion; without any there are none.
    reserved
        Parameters that the vocabulary writes: said there, not in ``parameters``.
    has_stress
        Whether it gives the stress that relaxing the cell needs.
    is_costly
        A calculation takes minutes: it has no limit of time by default, and is ended with a
        calculation from scratch.
    keeps
        One calculator serves many structures: it is costly to make and keeps no state.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("cutoff", "kspacing")
    takes: ClassVar[frozenset[str]] = EVERYTHING
    functionals: ClassVar[Mapping[str, str]] = {}
    smearings: ClassVar[Mapping[str, Any]] = {}
    dispersions: ClassVar[Mapping[str, Any]] = {}
    reserved: ClassVar[frozenset[str]] = frozenset()
    has_stress: ClassVar[bool] = True
    is_costly: ClassVar[bool] = True
    keeps: ClassVar[bool] = False

    def check(self, wanted: Wanted, symbols: Iterable[str]) -> None:
        """Raise if a campaign asks for what the code does not do, or data sets are missing.

        Parameters
        ----------
        wanted
            What is asked for.
        symbols
            Elements of the campaign, without vacancies.

        Raises
        ------
        InputError
            In one line.
        """
        symbols = list(symbols)
        for key in self.needs:
            if getattr(wanted, key) is None:
                raise InputError(f'oracle.kind = "{self.name}" needs oracle.{key}')
        wrong = sorted(self.reserved & {str(key).lower() for key in wanted.parameters})
        if wrong:
            raise InputError(
                f"oracle.parameters.{wrong[0]}: the preset writes it itself; "
                f"say it by {_said_by(wrong[0])}"
            )
        self._check_names(wanted)
        strangers = sorted(set(wanted.elements) - set(symbols))
        if strangers:
            raise InputError(f"oracle.elements.{strangers[0]}: not among {', '.join(symbols)}")
        check_moments(symbols, wanted)
        self.dataset_files(wanted, symbols)

    def _check_names(self, wanted: Wanted) -> None:
        if self.functionals and wanted.xc.upper() not in self.functionals:
            known = ", ".join(self.functionals)
            raise InputError(f"oracle.xc: {self.name} has no {wanted.xc!r}; known: {known}")
        if self.smearings and wanted.smearing not in self.smearings:
            known = ", ".join(self.smearings)
            raise InputError(
                f"oracle.smearing: {self.name} has no {wanted.smearing!r}; known: {known}"
            )
        if wanted.dispersion is not None and wanted.dispersion not in self.dispersions:
            known = ", ".join(self.dispersions) or "none"
            raise InputError(
                f"oracle.dispersion: {self.name} has no {wanted.dispersion!r}; known: {known}"
            )

    def remarks(self, wanted: Wanted, symbols: Iterable[str], *, relax_cell: bool) -> list[str]:
        """Return what should be known before a campaign, one line each."""
        found = []
        if relax_cell and not self.has_stress:
            found.append(
                f"{self.name} has no stress: relax_cell scans the volume, some ten calculations "
                "per structure, and the shape of the cell stays"
            )
        forgotten = forgotten_spin(symbols, wanted) if "spin" in self.takes else []
        if forgotten:
            found.append(
                f'{", ".join(forgotten)} may be magnetic; oracle.spin = "ferromagnetic" looks for '
                'moments, "none" says that this is known'
            )
        return found

    def dataset_files(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, Path]:
        """Return the files of the data sets, by element; none where the code finds them itself.

        Raises
        ------
        InputError
            One is missing.
        """
        return {}

    def datasets(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return name and SHA-256 of the data sets, by element."""
        return {
            symbol: {"file": path.name, "sha256": digest(path)}
            for symbol, path in self.dataset_files(wanted, symbols).items()
        }

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return the keyword arguments of the calculator: numbers, strings, lists and tables.

        Parameters
        ----------
        wanted
            What is asked for.
        atoms
            The structure at the start, with its moments.
        grid
            Numbers of k-points.
        attempt
            From the second on the way to the same energy is another one: mixing, steps,
            diagonaliser. Nothing that defines the energy changes with it.
        """
        raise NotImplementedError

    def relaxing(
        self, inputs: Mapping[str, Any], *, cell: bool, ions: bool, fmax: float, max_steps: int
    ) -> dict[str, Any] | None:
        """Return the inputs with which the code itself relaxes a structure; None if it cannot.

        Parameters
        ----------
        inputs
            What `inputs` returns, for a single point.
        cell, ions
            What is relaxed.
        fmax
            Threshold of forces, eV/Å.
        max_steps
            Steps at most.
        """
        return None

    def write_inputs(self, wanted: Wanted, inputs: Mapping[str, Any], atoms: Atoms) -> list[str]:
        """Write the code's own input files to the present folder.

        Parameters
        ----------
        wanted
            What is asked for.
        inputs
            What `inputs` or `relaxing` returns.
        atoms
            The structure, with the moments of `start_moments`.

        Returns
        -------
        list of str
            Their names; none where the code is called from Python.
        """
        return []

    def start_moments(self, moments: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what ASE's calculator takes for initial magnetic moments, (n_atoms,)."""
        return moments

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return a new calculator for structures of `symbols`; it works in the present folder."""
        raise NotImplementedError

    def findings(self, calculator: Calculator) -> dict[str, Any]:
        """Return what is known of the last calculation.

        Returns
        -------
        dict
            ``version``, and where known ``scf_residual`` (eV), ``moments`` (Bohr magnetons per
            atom), ``moment`` (of the cell), ``datasets``.

        Raises
        ------
        NotConverged
            It did not become self-consistent.
        """
        raise NotImplementedError


def _said_by(parameter: str) -> str:
    words = {"kpts": "oracle.kspacing", "ngkpt": "oracle.kspacing", "ngridk": "oracle.kspacing"}
    return words.get(parameter, "one of oracle.xc, cutoff, kspacing, smearing, spin, elements")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_file(folder: Path, symbol: str, named: str | None, patterns: Iterable[str]) -> Path:
    """Return the file of an element in a folder: the one named, or the only one that fits.

    Raises
    ------
    InputError
        None or several fit.
    """
    if named is not None:
        if not (folder / named).is_file():
            raise InputError(f"oracle.elements.{symbol}.dataset: there is no file {folder / named}")
        return folder / named
    fits = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
    names = list(dict.fromkeys(path.name for path in fits))
    if len(names) == 1:
        return fits[0]
    what = f"{len(names)} files fit ({', '.join(names[:4])})" if names else "no file fits"
    raise InputError(
        f"oracle.datasets: {what} {symbol} in {folder}; name one: "
        f'[oracle.elements.{symbol}] dataset = "..."'
    )


def folder_of_datasets(wanted: Wanted, code: str, default: str | None = None) -> Path:
    """Return the folder of data sets.

    Raises
    ------
    InputError
        It is not said, or is not there.
    """
    said = wanted.datasets or default
    if said is None:
        raise InputError(f'oracle.kind = "{code}" needs oracle.datasets, the folder of its data')
    folder = Path(said).expanduser()
    if not folder.is_dir():
        raise InputError(f"oracle.datasets: there is no folder {folder}")
    return folder.absolute()
