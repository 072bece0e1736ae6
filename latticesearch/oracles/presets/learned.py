"""Potentials learned by others, whose weights come with the package, and moment tensor ones."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latticesearch.errors import InputError
from latticesearch.oracles.presets.preset import Preset, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from latticesearch.oracles.presets.vocabulary import Wanted


class Learned(Preset):
    """A potential: no electrons, so nothing but its name and what is passed on.

    Attributes
    ----------
    module, factory
        What makes its calculator; imported by the worker only.
    package
        Whose version is noted.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    takes = frozenset({"parameters"})
    is_costly = False
    keeps = True
    module: ClassVar[str]
    factory: ClassVar[str]
    package: ClassVar[str]

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return what is passed on."""
        return dict(wanted.parameters)

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return the calculator of the package."""
        return getattr(importlib.import_module(self.module), self.factory)(**inputs)

    def findings(self, calculator: Calculator) -> dict[str, Any]:
        """Return the version of the package."""
        return {"version": importlib.metadata.version(self.package)}


class Chgnet(Learned):
    """CHGNet."""

    name = "chgnet"
    module, factory, package = "chgnet.model.dynamics", "CHGNetCalculator", "chgnet"


class Sevenn(Learned):
    """SevenNet; ``parameters = { model = "7net-l3i5" }`` chooses among its models."""

    name = "sevenn"
    module, factory, package = "sevenn.calculator", "SevenNetCalculator", "sevenn"


class Mtp(Learned):
    """A ``.mtp`` file of ours or of MLIP, evaluated off the lattice."""

    name = "mtp"
    needs = ("file",)
    takes = frozenset({"parameters", "file"})
    package = "latticesearch"

    def check(self, wanted: Wanted, symbols: Iterable[str]) -> None:
        """Raise if the file is missing, or has other types than the species it is given."""
        super().check(wanted, symbols)
        self.dataset_files(wanted, symbols)
        missing = set(symbols) - set(self._potential(wanted).species)
        if missing:
            raise InputError(f"oracle.file: the potential has no type for {min(missing)}")

    def dataset_files(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, Path]:
        """Return the potential as the data of all elements."""
        if wanted.file is None or not Path(wanted.file).is_file():
            raise InputError(f"oracle.file: there is no file {wanted.file}")
        return {"all": Path(wanted.file)}

    def datasets(self, wanted: Wanted, symbols: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the SHA-256 of the potential, wherever it lies."""
        return {"all": {"sha256": digest(self.dataset_files(wanted, symbols)["all"])}}

    def inputs(
        self, wanted: Wanted, atoms: Atoms, grid: tuple[int, int, int], attempt: int
    ) -> dict[str, Any]:
        """Return the file and the symbols of its types."""
        return {"file": wanted.file, **wanted.parameters}

    def calculator(
        self, wanted: Wanted, inputs: Mapping[str, Any], symbols: Iterable[str]
    ) -> Calculator:
        """Return our own calculator."""
        return calculators().MtpCalculator(self._potential(wanted))

    def _potential(self, wanted: Wanted) -> Any:
        files = importlib.import_module("latticesearch.potential.mtp.files")
        try:
            return files.read_mtp(wanted.file, wanted.parameters.get("species"))
        except InputError as error:
            way_out = 'oracle.parameters = { species = ["Mo", "Ta"] } names the types of the file'
            raise InputError(f"{error} ({way_out})") from error


def calculators() -> Any:
    """Return the module of our calculator, by name: oracles know potentials as any other's."""
    return importlib.import_module("latticesearch.potential.mtp.offlattice.calculator")
