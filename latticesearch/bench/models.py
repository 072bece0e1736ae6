"""Potentials on which searches are judged: fitted to DFT, published, and frustrated at random."""

from __future__ import annotations

import gzip
import logging
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential import LabelledBatch, MtpBasis, TrainingSet, fit, read_mtp
from latticesearch.potential.clusters import ClusterBasis, ClusterModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.potential import MtpPotential, Potential

log = logging.getLogger(__name__)

SPECIES = ("Nb", "Mo", "Ta", "W")
"""Of the models fitted to the published DFT energies of Nb-Mo-Ta-W."""

CONSTANTS = {"bcc": 3.24, "fcc": 4.08}
"""Lattice constants, Å, with nearest neighbours at 2.81 and 2.88 Å."""

FRUSTRATED = (0.03, 0.02)
"""eV: spread of the energies of nearest pairs and of triplets of the random models."""

CUTOFFS = (6.0, 4.2)
"""Å: longest pairs and triplets of the random models; the triplets reach beyond those of the
surrogates that guide the annealing of large cells."""


class MissingDataError(Exception):
    """Data of others that a benchmark needs are not on this machine."""


@dataclass(frozen=True, eq=False)
class Case:
    """A potential on a parent lattice.

    Attributes
    ----------
    name : str
    parent : ParentLattice
    model : Potential
    """

    name: str
    parent: ParentLattice
    model: Potential


def data_folder() -> Path:
    """Return the folder of reference data: LATTICESEARCH_SHARED_DATA, or ../shared/data."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("LATTICESEARCH_SHARED_DATA", beside))


def parent_of(lattice: str, species: tuple[str, ...]) -> ParentLattice:
    """Return a parent lattice of one site per cell."""
    return ParentLattice.from_prototype(lattice, CONSTANTS[lattice], species)


def case_of(name: str, lattice: str, n_species: int = 4) -> Case:
    """Return a model by name, with the first species of it.

    Parameters
    ----------
    name
        "fitted-8" (level), "published", or "frustrated-1" (seed).
    lattice
        "bcc" or "fcc".
    n_species
        Species that the parent lattice allows.

    Raises
    ------
    MissingDataError
        The data that the model needs are not here.
    """
    kind, _, number = name.partition("-")
    if kind == "frustrated":
        parent = parent_of(lattice, SPECIES[:n_species])
        pair, triplet = FRUSTRATED
        basis = ClusterBasis.of(parent, *CUTOFFS)
        return Case(
            name, parent, ClusterModel.random(basis, int(number), pair=pair, triplet=triplet)
        )
    model = fitted(int(number)) if kind == "fitted" else published()
    # The binary of the fitted models is one of those they were fitted to.
    species = model.species[1:3] if n_species == 2 else model.species[:n_species]
    return Case(name, parent_of(lattice, species), model)


@lru_cache(maxsize=4)
def published() -> MtpPotential:
    """Return the published potential of Mo-Ta-Nb-Ti, level 20."""
    path = data_folder() / "mtp" / "MoTaNbTi.mtp"
    if not path.is_file():
        raise MissingDataError(f"there is no {path}")
    return read_mtp(path, species=("Ta", "Ti", "Nb", "Mo"))


@lru_cache(maxsize=4)
def fitted(level: int) -> MtpPotential:
    """Return a potential fitted to DFT energies of five binaries of Nb-Mo-Ta-W at once."""
    cell, labels, energies = _dft_energies()
    training = TrainingSet(labelings=(LabelledBatch(Labelings(cell, labels), energies),))
    potential, report = fit(MtpBasis(level=level, species=SPECIES, cutoff=5.0), training, seed=0)
    log.info(
        "level %d fitted to %d DFT energies: %.2f meV/atom",
        level,
        len(energies),
        report.energy_rmse,
    )
    return potential


@lru_cache(maxsize=1)
def _dft_energies() -> tuple[Supercell, npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """Return the 16-site cell, labels, (n, 16), and relaxed energies, (n,), eV per site."""
    folder = data_folder() / "nbmotaw_vasp"
    if not (folder / "dft.extxyz.gz").is_file():
        raise MissingDataError(f"there is no {folder / 'dft.extxyz.gz'}")
    parent = parent_of("bcc", SPECIES)
    cell = Supercell.from_matrix(parent, 2 * parent.conventional)
    labels, energies = [], []
    for line in (folder / "pure_references.csv").read_text().splitlines()[1:]:
        symbol, energy = line.split(",")[:2]
        labels.append(np.full(16, SPECIES.index(symbol), dtype=np.int8))
        energies.append(float(energy))
    for header, atoms in _frames(folder / "dft.extxyz.gz"):
        if "_SS" in header and "tag=relax" in header:
            labels.append(_labels(cell, header, atoms))
            match = re.search(r" energy=(\S+)", header)
            assert match is not None
            energies.append(float(match[1]) / 16)
    return cell, np.array(labels), np.array(energies)


def _frames(path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield header and atom lines of every structure of an extxyz file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            header = next(file)
            yield header, [next(file).split() for _ in range(int(line))]


def _labels(cell: Supercell, header: str, atoms: list[list[str]]) -> npt.NDArray[np.int8]:
    """Return the labels of a relaxed structure, (16,); its atoms are near their ideal sites."""
    match = re.search(r'Lattice="([^"]+)"', header)
    assert match is not None
    lattice = np.array(match[1].split(), dtype=float).reshape(3, 3)
    scale = abs(np.linalg.det(lattice) / np.linalg.det(cell.cell)) ** (1 / 3)
    matrix = np.rint(lattice / scale @ np.linalg.inv(cell.parent.cell))
    fractional = np.array([row[1:4] for row in atoms], dtype=float) @ np.linalg.inv(lattice)
    sites = cell.site_of(0, np.rint((fractional - fractional[0]) @ matrix).astype(int))
    labels = np.empty(cell.n_sites, dtype=np.int8)
    labels[sites] = [SPECIES.index(row[0]) for row in atoms]
    return labels
