"""Energies of labelings of one supercell under a moment tensor potential."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.mtp import _lattice_kernels as kernels
from latticesearch.potential.mtp import _walk_kernels as walk_kernels
from latticesearch.potential.mtp._contraction import aligned, space
from latticesearch.potential.mtp.products import energy_contraction, full_contraction
from latticesearch.potential.mtp.tables import PADDING, RadialInterval, lattice_geometry
from latticesearch.potential.protocol import KEPT, Evaluator
from latticesearch.vectors import LANES

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.potential.mtp.coefficients import MtpCoefficients
    from latticesearch.potential.mtp.tables import LatticeGeometry

Floats: TypeAlias = "npt.NDArray[np.float64]"
Labels: TypeAlias = "npt.NDArray[np.int8]"


class MtpLatticeEvaluator(Evaluator):
    """An `Evaluator` whose site energies are sums of table rows, then contractions.

    Parameters
    ----------
    potential
        The moment tensor potential; vacancies ("X") are a species like any other.
    supercell
        The cell of all labelings.

    Raises
    ------
    InputError
        The parent lattice has a species that the potential does not know.
    """

    is_compiled = True
    has_site_energies = True
    has_gradients = True
    mean_field_cost = 1

    def __init__(self, potential: MtpCoefficients, supercell: Supercell) -> None:
        super().__init__(supercell)
        self._n_parameters = potential.n_parameters
        order = species_order(potential.species, supercell.parent)
        powers, power = unique_powers(potential)
        geometry = lattice_geometry(supercell, radial_interval(potential), powers)
        self._tables = _lattice_tables(potential, geometry, power, order)
        # Only fits and grades need gradients, and most supercells see neither.
        self._make_gradient = partial(_gradient_tables, potential, geometry, power, order)

    @cached_property
    def _gradient(self) -> kernels.GradientTables:
        return self._make_gradient()

    @property
    def n_parameters(self) -> int:
        """Number of coefficients of the potential: radial, species, moments."""
        return self._n_parameters

    def energies(self, labels: Labels) -> Floats:
        """Return the energies per site, (n,), eV, of `labels`, (n, n_sites)."""
        mean: Floats = kernels.mean_energies(self.site_energies(labels))
        return mean

    def site_energies(self, labels: Labels) -> Floats:
        """Return the energies of the sites, (n, n_sites), eV, of `labels`, (n, n_sites)."""
        labels = self.checked(labels, 2)
        energies = np.empty(labels.shape)
        kernels.site_energies(self._tables, labels, energies)
        return energies

    def mean_field_energies(self, occupations: Floats) -> Floats:
        """Return the energies per site, (n,), eV, of fractional `occupations`.

        Moments are linear in the occupation of the neighbours, so those are averaged exactly;
        the energy of an undecided centre is the average over its species.

        Parameters
        ----------
        occupations
            (n, n_sites, n_species), rows sum to one.
        """
        occupations = self.checked_occupations(occupations)
        energies: Floats = kernels.mean_field_energies(self._tables, occupations)
        return energies

    def flip_energies(
        self,
        labels: Labels,
        sites: npt.NDArray[np.intp],
        species: Labels,
    ) -> Floats:
        """Return the changes of the cell's energy, (m,), eV, when one site changes its species.

        Parameters
        ----------
        labels
            (n_sites,), from which every flip starts.
        sites, species
            (m,): flip k sets ``labels[sites[k]] = species[k]``.
        """
        sites, species = self.checked_flips(sites, species)
        state = self.walk_state(labels)
        changes: Floats = walk_kernels.flip_changes(self._tables, state, sites, species)
        return changes

    def swap_energies(self, labels: Labels, pairs: npt.NDArray[np.intp]) -> Floats:
        """Return the changes of the cell's energy, (m,), eV, when two sites swap their species.

        Parameters
        ----------
        labels
            (n_sites,), from which every swap starts.
        pairs
            (m, 2) distinct sites.
        """
        pairs = self.checked_sites(pairs, (-1, 2))
        state = self.walk_state(labels)
        changes: Floats = walk_kernels.swap_changes(self._tables, state, pairs)
        return changes

    @property
    def walk_tables(self) -> kernels.LatticeTables:
        """The tables that the compiled functions of `latticesearch.potential.walk` take."""
        return self._tables

    def walk_state(self, labels: Labels) -> walk_kernels.WalkState:
        """Return a new state of `labels`, (n_sites,), worked out, for the same functions."""
        labels = self.checked(labels, 1)
        n_sites, width = len(labels), self._tables.moments.shape[3]
        n_touched = min(n_sites, 2 * (self._tables.seers.shape[1] + 1))
        state = walk_kernels.WalkState(
            labels=labels.copy(),
            energy=np.zeros(1),
            moments=_rows(n_sites, width),
            energies=np.empty(n_sites),
            changed=np.zeros(2, dtype=np.int64),
            species=np.zeros(2, dtype=np.int8),
            touched=np.empty(n_touched, dtype=np.int64),
            slots=np.empty(n_sites, dtype=np.int64),
            trial_moments=_rows(n_touched, width),
            trial_energies=np.empty(n_touched),
            change=np.zeros(1),
            counts=np.zeros(3, dtype=np.int64),
            work=space(self._tables.contraction),
        )
        walk_kernels.begin(self._tables, state)
        return state

    def gradient_rows(self, labels: Labels) -> Floats:
        """Return d(energy per site)/d(parameters), (n, n_parameters), of `labels`, (n, n_sites)."""
        labels = self.checked(labels, 2)
        rows = np.zeros((len(labels), self._n_parameters))
        kernels.add_gradients(self._tables, self._gradient, labels, rows)
        rows /= self.supercell.n_sites
        return rows

    def site_gradient_rows(self, labels: Labels) -> Floats:
        """Return d(site energy)/d(parameters), (n_sites, n_parameters), of one labeling."""
        labels = self.checked(labels, 1)
        rows = np.zeros((len(labels), self._n_parameters))
        kernels.add_gradients(self._tables, self._gradient, labels[None], rows)
        return rows


@lru_cache(maxsize=KEPT)
def lattice_evaluator(potential: MtpCoefficients, supercell: Supercell) -> MtpLatticeEvaluator:
    """Return the evaluator of `supercell`; those last asked for are kept."""
    return MtpLatticeEvaluator(potential, supercell)


def radial_interval(potential: MtpCoefficients) -> RadialInterval:
    """Return where the radial basis functions of `potential` live."""
    size = potential.radial_coeffs.shape[3]
    return RadialInterval(potential.min_dist, potential.max_dist, size)


def unique_powers(
    potential: MtpCoefficients,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Return the powers of x, y, z, (n_powers, 3), and which of them each basic moment has."""
    exponents = np.array(potential.alpha_index_basic[:, 1:], dtype=np.int64)
    return _unique_powers(exponents.tobytes())


@lru_cache(maxsize=32)
def _unique_powers(exponents: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Return the same for the bytes of exponents, (n_basic, 3); every supercell asks for it."""
    rows = np.frombuffer(exponents, dtype=np.int64).reshape(-1, 3)
    powers, power = np.unique(rows, axis=0, return_inverse=True)
    return np.ascontiguousarray(powers), power.ravel()


def species_order(species: tuple[str, ...], parent: ParentLattice) -> npt.NDArray[np.int64]:
    """Return the index of each species of `parent` among those of a potential, (n_species,).

    Raises
    ------
    InputError
        The parent lattice has a species that the potential does not know.
    """
    missing = [symbol for symbol in parent.species if symbol not in species]
    if missing:
        hint = '; a vacancy is a species of its own named "X"' if "X" in missing else ""
        raise InputError(
            f"the parent lattice has {', '.join(missing)}, but the potential knows only "
            f"{', '.join(species)}{hint}: take a potential of all the lattice's species"
        )
    return np.array([species.index(symbol) for symbol in parent.species], dtype=np.int64)


def _rows(*shape: int) -> Floats:
    """Return zeros of a shape whose rows, of whole vectors, begin where cache lines do."""
    rows: Floats = aligned(math.prod(shape)).reshape(shape)
    rows[:] = 0.0
    return rows


def _lattice_tables(
    potential: MtpCoefficients,
    geometry: LatticeGeometry,
    power: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
) -> kernels.LatticeTables:
    """Contract the geometry with the radial coefficients.

    Once per supercell, so that no kernel sees a radial function: the rows of the tables are
    f_mu(|r|, z_i, z_j) times powers of direction cosines, summed over images.

    Parameters
    ----------
    potential
        The moment tensor potential.
    geometry
        Of the supercell.
    power
        (n_basic,): which powers each basic moment has.
    order
        (n_species,): the potential's number of each species of the lattice.
    """
    mu = potential.alpha_index_basic[:, 0]
    coeffs = potential.scaling * potential.radial_coeffs[np.ix_(order, order)][:, :, mu]
    rows = np.einsum("uqk,ijkq->uijk", geometry.values[:, :, power], coeffs)
    moments = _rows(*rows.shape[:3], -(-len(mu) // LANES) * LANES)
    moments[..., : len(mu)] = rows
    stride = math.prod(moments.shape[1:])
    return kernels.LatticeTables(
        (geometry.neighbours != PADDING).sum(axis=1),
        geometry.neighbours.astype(np.uint32),
        geometry.rows * stride,
        (geometry.seers != PADDING).sum(axis=1),
        geometry.seers.astype(np.uint32),
        geometry.seer_rows * stride,
        moments,
        np.ascontiguousarray(potential.species_coeffs[order]),
        energy_contraction(potential),
    )


def _gradient_tables(
    potential: MtpCoefficients,
    geometry: LatticeGeometry,
    power: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
) -> kernels.GradientTables:
    """Find where each derivative goes in a row of parameters; arguments as of `_lattice_tables`."""
    n_radial, size = potential.radial_coeffs.shape[2:]
    index = np.arange(potential.radial_coeffs.size, dtype=np.int64)
    first = index.reshape(potential.radial_coeffs.shape)[np.ix_(order, order)][..., 0]
    n_unique, _, n_powers = geometry.values.shape
    values = _rows(n_unique, -(-n_powers * size // LANES) * LANES)
    by_power = geometry.values.swapaxes(1, 2).reshape(n_unique, n_powers * size)
    values[:, : n_powers * size] = potential.scaling * by_power
    mu = potential.alpha_index_basic[:, 0]
    by_radial = np.argsort(mu, kind="stable")
    contraction, scalars = full_contraction(potential)
    return kernels.GradientTables(
        contraction,
        scalars,
        geometry.rows * values.shape[1],
        values,
        np.searchsorted(mu[by_radial], np.arange(n_radial + 1)),
        by_radial,
        power[by_radial].astype(np.int64),
        np.ascontiguousarray(first),
        potential.radial_coeffs.size + order,
        size,
    )
