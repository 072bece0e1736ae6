"""Normal equations of a fit to many structures, summed up without ever storing all rows.

Thousands of structures have hundreds of thousands of rows of energies, forces and stresses, but
the coefficients of a potential are some hundreds. So rows are worked out structure by structure,
multiplied with each other, and forgotten. The configurations are split into a fixed number of
chunks, whose sums are added in a fixed order: the result is the same, to the last bit, for any
number of ranks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.parallel import block_range, collective_errors
from latticesearch.potential.mtp.offlattice import _fit_kernels
from latticesearch.potential.mtp.offlattice.evaluation import OffLatticeStructure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.parallel import Communicator
    from latticesearch.potential.mtp.coefficients import MtpCoefficients
    from latticesearch.potential.training_set import TrainingSet

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

N_CHUNKS = 32
"""Parts into which configurations are split; more ranks than these have nothing to do."""


class TrainingCell(NamedTuple):
    """One structure and what is known of it.

    ``factors`` multiply the errors of the energy (eV), the forces (eV/Å) and the stress (eV/Å³),
    zero for what is unknown.
    """

    atoms: Atoms
    energy: float
    forces: Floats | None
    stress: Floats | None
    factors: tuple[float, float, float]


def configurations(training: TrainingSet, weights: Floats) -> Iterator[TrainingCell]:
    """Yield all configurations of a training set that has been checked.

    A labeling is a structure on ideal sites of which only the energy is known.

    Parameters
    ----------
    training
        Labelings without vacancies, and structures.
    weights
        Importance of each, (n_configurations,).
    """
    roots = iter(np.sqrt(weights / weights.mean()).tolist())
    for part in training.labelings:
        n_sites = part.batch.supercell.n_sites
        for labels, energy in zip(part.batch.labels, part.energies.tolist(), strict=True):
            atoms = part.batch.supercell.to_atoms(labels)
            factors = (next(roots) / n_sites, 0.0, 0.0)
            yield TrainingCell(atoms, energy * n_sites, None, None, factors)
    for atoms in training.structures:
        results, n, root = atoms.calc.results, len(atoms), next(roots)
        forces, stress = results.get("forces"), results.get("stress")
        if not atoms.pbc.all():
            stress = None
        of_forces = 0.0 if forces is None else root * training.force_weight / np.sqrt(3 * n)
        of_stress = 0.0
        if stress is not None:
            of_stress = root * training.stress_weight * atoms.get_volume() / n / np.sqrt(6)
        factors = (root / n, float(of_forces), float(of_stress))
        yield TrainingCell(atoms, float(results["energy"]), forces, stress, factors)


class _Equations(NamedTuple):
    """Structures of one chunk with the same species; `indices` (n,) number them among all."""

    data: _fit_kernels.Structures
    indices: Integers
    columns: Integers


class Sums(NamedTuple):
    """Normal equations at one potential, of all ranks.

    Parameters
    ----------
    products
        ``rows.T @ rows``, (n_coefficients + 1, n_coefficients + 1): species, basis functions,
        radial coefficients (in the order of the model), and what the potential gives too much.
    squares
        Sums of squared weighted errors of energies, forces and stresses, (3,).
    """

    products: Floats
    squares: Floats


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """A training set, ready to be summed up at any potential of one form.

    Parameters
    ----------
    form
        The form; coefficients are not used.
    n_configurations, n_rows
        Of all ranks.
    groups
        Configurations of each set of species.
    seen_pairs
        ``seen_pairs[a, b]``: some a has a neighbour b, (n_species, n_species).
    closest
        Shortest distance in any structure, Å; infinite without neighbours.
    """

    form: MtpCoefficients
    n_configurations: int
    n_rows: int
    groups: tuple[Integers, ...]
    seen_pairs: npt.NDArray[np.bool_]
    closest: float
    _comm: Communicator
    _chunks: tuple[tuple[_Equations, ...], ...] = field(repr=False)

    @classmethod
    def of(
        cls, form: MtpCoefficients, known: Sequence[TrainingCell], comm: Communicator
    ) -> NormalEquations:
        """Find the neighbours of this rank's chunks of the configurations, the same on all."""
        order = _by_species(known, form.species)
        every = [index for members in order.values() for index in members]
        sizes = np.array([len(known[index].atoms) for index in every])
        chunk_of = (np.cumsum(sizes) - sizes) * N_CHUNKS // max(int(sizes.sum()), 1)
        chunks = []
        with collective_errors(comm):
            for chunk in block_range(N_CHUNKS, comm):
                mine = {every[k] for k in np.flatnonzero(chunk_of == chunk)}
                parts = {key: [i for i in group if i in mine] for key, group in order.items()}
                chunks.append(
                    tuple(
                        _block(form, known, key, part) for key, part in parts.items() if len(part)
                    )
                )
        seen, closest = _contacts(form, chunks)
        return cls(
            form=form,
            n_configurations=len(known),
            n_rows=sum(_n_rows(configuration) for configuration in known),
            groups=tuple(np.array(members) for members in order.values()),
            seen_pairs=np.any(comm.allgather(seen), axis=0),
            closest=min(comm.allgather(closest)),
            _comm=comm,
            _chunks=tuple(chunks),
        )

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients: linear ones first, then radial ones."""
        return self.form.n_parameters

    def at(self, potential: MtpCoefficients, chosen: npt.NDArray[np.bool_] | None = None) -> Sums:
        """Return the normal equations of all or the `chosen` configurations, (n,), collective."""
        model, width = _model(potential), self.n_coefficients + 1
        parts = []
        total, squares = np.zeros((width, width)), np.zeros(3)
        upper = np.triu_indices(width)
        with collective_errors(self._comm):
            for blocks in self._chunks:
                products, sums = np.zeros((width, width)), np.zeros(3)
                for block in blocks:
                    which = _chosen(block, chosen)
                    own = np.zeros((len(block.columns), len(block.columns)))
                    sums += _fit_kernels.add_products(model, block.data, which, own).sum(axis=0)
                    products[np.ix_(block.columns, block.columns)] += own
                parts.append((products[upper], sums))
        for chunk in self._comm.allgather(parts):
            for products, sums in chunk:
                total[upper] += products
                squares += sums
        total += np.triu(total, 1).T
        return Sums(total, squares)

    def energy_rows(self, potential: MtpCoefficients) -> tuple[Floats, Floats]:
        """Return what describes the energies, collective.

        Returns
        -------
        rows
            (n_configurations, n_coefficients + 1), weighted, as in `Sums`.
        factors
            Their weights relative to errors per atom, (n_configurations,).
        """
        model, width = _model(potential), self.n_coefficients + 1
        parts = []
        with collective_errors(self._comm):
            for block in (block for blocks in self._chunks for block in blocks):
                data = block.data._replace(factors=block.data.factors * np.array([1.0, 0.0, 0.0]))
                which = np.arange(len(block.indices))
                rows = _fit_kernels.energy_rows(model, data, which, len(block.columns))
                weights = block.data.factors[:, 0] * np.diff(block.data.atoms)
                parts.append((block.indices, block.columns, rows, weights))
        every, factors = np.zeros((self.n_configurations, width)), np.zeros(self.n_configurations)
        for own in self._comm.allgather(parts):
            for indices, columns, rows, weights in own:
                every[np.ix_(indices, columns)] = rows
                factors[indices] = weights
        return every, factors


def _by_species(
    known: Sequence[TrainingCell], species: tuple[str, ...]
) -> dict[tuple[int, ...], list[int]]:
    """Return the configurations of each set of species."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, configuration in enumerate(known):
        symbols = set(configuration.atoms.get_chemical_symbols())
        groups[tuple(k for k, symbol in enumerate(species) if symbol in symbols)].append(index)
    return dict(sorted(groups.items()))


def _n_rows(configuration: TrainingCell) -> int:
    _, forces, stress = configuration.factors
    return 1 + 3 * len(configuration.atoms) * (forces > 0.0) + 6 * (stress > 0.0)


def _block(
    form: MtpCoefficients, known: Sequence[TrainingCell], key: tuple[int, ...], members: list[int]
) -> _Equations:
    """Collect the configurations `members`, which have the species `key`."""
    chosen = [known[index] for index in members]
    found = [OffLatticeStructure.from_atoms(item.atoms, form) for item in chosen]
    sizes = np.array([structure.n_atoms for structure in found])
    n_neighbours = np.concatenate([np.diff(structure.starts) for structure in found])
    local = np.full(form.n_species, -1)
    local[list(key)] = np.arange(len(key))
    forces = [np.zeros((len(c.atoms), 3)) if c.forces is None else c.forces for c in chosen]
    stresses = [np.zeros(6) if c.stress is None else c.stress for c in chosen]
    data = _fit_kernels.Structures(
        species=np.array(key, dtype=np.int64),
        local=local.astype(np.int64),
        atoms=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        types=np.concatenate([structure.types for structure in found]).astype(np.int64),
        pairs=np.concatenate([[0], np.cumsum(n_neighbours)]).astype(np.int64),
        neighbours=np.concatenate([structure.neighbours for structure in found]).astype(np.int64),
        vectors=np.concatenate([structure.vectors for structure in found]),
        volumes=np.array([structure.volume for structure in found]),
        factors=np.array([item.factors for item in chosen]),
        energies=np.array([item.energy for item in chosen]),
        forces=np.concatenate(forces).astype(np.float64),
        stresses=np.array(stresses, dtype=np.float64),
    )
    return _Equations(data, np.array(members, dtype=np.int64), _columns(form, key))


def _columns(form: MtpCoefficients, key: tuple[int, ...]) -> Integers:
    """Return the places of a block's columns, (n_columns,), among those of all species."""
    n_linear = form.n_species + len(form.moment_coeffs)
    numbers = np.arange(form.radial_coeffs.size).reshape(form.radial_coeffs.shape)
    radial = n_linear + numbers[np.ix_(key, key)].ravel()
    scalars = np.arange(form.n_species, n_linear)
    return np.concatenate([key, scalars, radial, [form.n_parameters]]).astype(np.int64)


def _contacts(
    form: MtpCoefficients, chunks: Sequence[tuple[_Equations, ...]]
) -> tuple[npt.NDArray[np.bool_], float]:
    """Return which species neighbour which, (n_species, n_species), and the least distance, Å."""
    seen = np.zeros((form.n_species, form.n_species), dtype=bool)
    closest = np.inf
    for data in (block.data for blocks in chunks for block in blocks):
        owners = np.repeat(np.arange(len(data.types)), np.diff(data.pairs))
        firsts = np.repeat(data.atoms[:-1], np.diff(data.atoms))
        seen[data.types[owners], data.types[firsts[owners] + data.neighbours]] = True
        distances = np.linalg.norm(data.vectors, axis=1)
        closest = min(closest, float(distances.min(initial=np.inf)))
    return seen, closest


def _chosen(block: _Equations, chosen: npt.NDArray[np.bool_] | None) -> Integers:
    """Return the numbers, (n,), of a block's structures among the `chosen`, (n_configurations,)."""
    if chosen is None:
        return np.arange(len(block.indices))
    return np.flatnonzero(chosen[block.indices]).astype(np.int64)


def _model(potential: MtpCoefficients) -> _fit_kernels.Model:
    """Return a potential for the kernels, which put the scaling into the radial basis."""
    return _fit_kernels.Model(
        basic=potential.alpha_index_basic,
        times=potential.alpha_index_times,
        mapping=potential.alpha_moment_mapping,
        n_moments=potential.n_moments,
        rank=int(potential.alpha_index_basic[:, 1:].max()),
        radial=np.ascontiguousarray(potential.radial_coeffs),
        linear=np.concatenate([potential.species_coeffs, potential.moment_coeffs]),
        interval=(potential.min_dist, potential.max_dist),
        scaling=potential.scaling,
    )
