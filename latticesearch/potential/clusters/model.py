"""A cluster expansion as data: its basis and its coefficients."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.clusters._blocks import BLOCK
from latticesearch.potential.clusters._table_kernels import model_energies
from latticesearch.potential.protocol import energies_per_atom

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Labelings, Supercell
    from latticesearch.potential.clusters._table_kernels import ModelEnergies
    from latticesearch.potential.clusters.basis import ClusterBasis
    from latticesearch.potential.clusters.lattice import ClusterLatticeEvaluator


@dataclass(frozen=True, eq=False)
class ClusterModel:
    """A `LatticeModel` whose energy is a sum over points, pairs and triplets.

    Parameters
    ----------
    basis
        The functions.
    coefficients
        (n_parameters,), eV per cluster.
    """

    basis: ClusterBasis
    coefficients: npt.NDArray[np.float64]
    _cache: dict[Supercell, ClusterLatticeEvaluator] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        coefficients = np.ascontiguousarray(self.coefficients, dtype=np.float64)
        object.__setattr__(self, "coefficients", coefficients)
        if coefficients.shape != (self.basis.n_parameters,):
            raise InputError(
                f"coefficients have the shape {coefficients.shape}; this cluster basis has "
                f"{self.basis.n_parameters} parameters"
            )

    @classmethod
    def random(cls, basis: ClusterBasis, seed: int, *, pair: float, triplet: float) -> ClusterModel:
        """Draw coefficients that frustrate each other: normal, without regard to the lattice.

        Parameters
        ----------
        basis
            The functions.
        seed
            Names the model.
        pair, triplet
            Standard deviation of the energies of the nearest pairs and of the triplets, eV;
            that of longer pairs falls with the square of the length.
        """
        rng = np.random.default_rng(seed)
        spread = np.zeros(basis.n_parameters)
        spread[_columns(basis.triplet_tables)] = triplet
        lengths = _pair_lengths(basis)
        for shape, length in enumerate(lengths):
            columns = _columns(basis.pair_tables[shape][None])
            spread[columns] = pair * (min(lengths) / length) ** 2
        return cls(basis, spread * rng.normal(size=basis.n_parameters))

    @property
    def species(self) -> tuple[str, ...]:
        """Symbols of the parent lattice."""
        return self.basis.parent.species

    def evaluator(self, supercell: Supercell) -> ClusterLatticeEvaluator:
        """Return the evaluator of `supercell` (made once per supercell and kept).

        Raises
        ------
        InputError
            The supercell is one of another parent lattice.
        """
        from latticesearch.potential.clusters.lattice import ClusterLatticeEvaluator

        if supercell not in self._cache:
            self._cache[supercell] = ClusterLatticeEvaluator(self, supercell)
        return self._cache[supercell]

    @cached_property
    def cluster_energies(self) -> ModelEnergies:
        """Energies of all clusters, eV, which every supercell adds up anew."""
        width = padded_width(self.basis.points.shape[1])
        entries = self.basis.orientations.entries
        energies: ModelEnergies = model_energies(entries, self.coefficients, width)
        return energies

    @cached_property
    def point_energies(self) -> npt.NDArray[np.float64]:
        """Energies of species on the sites of the basis, (n_basis, n_species), eV."""
        return self.basis.points @ self.coefficients

    def energies(self, batch: Labelings) -> npt.NDArray[np.float64]:
        """Return the energies of a batch, (n,), eV per atom (vacancies not counted)."""
        return energies_per_atom(self, batch)


def _columns(tables: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which coefficients the tables, (n, ..., n_parameters), depend on."""
    used: npt.NDArray[np.bool_] = (tables != 0.0).reshape(-1, tables.shape[-1]).any(axis=0)
    return used


def _pair_lengths(basis: ClusterBasis) -> list[float]:
    """Return the length of each shape of pair, Å."""
    pairs, parent = basis.pairs, basis.parent
    shifts = pairs.cells[:, 0] + parent.basis[pairs.basis[:, 0]] - parent.basis[pairs.centre]
    lengths = np.linalg.norm(shifts @ parent.cell, axis=1)
    return [float(lengths[pairs.shape == s].mean()) for s in range(len(pairs.kinds))]


def padded_width(n_species: int) -> int:
    """Return the number of doubles in a line of so many species."""
    return -(-n_species // BLOCK) * BLOCK
