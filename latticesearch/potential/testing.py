"""What every potential must fulfil, ours and other people's: call `check_potential` in a test.

Each check raises AssertionError with one line that says what does not hold, for which labeling.
They ask for nothing that a model does not offer; what it leaves out is derived from its energies
and is checked as well, because wrong energies break that too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, Supercell
from latticesearch.potential._testing_kernels import begin_again, row_of, walk_along
from latticesearch.potential.fitting import energy_errors, fit_potential
from latticesearch.potential.protocol import evaluator_of
from latticesearch.potential.training_set import LabelledBatch, TrainingSet, rms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice
    from latticesearch.potential.protocol import Evaluator, Potential

    Labels = npt.NDArray[np.int8]
    Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-9
"""Share of the spread of the energies by which two ways to the same energy may differ: a hundred
thousand roundings of doubles."""

CELLS = ([1, 1, 1], [1, 1, 2], [[1, 0, 1], [0, 1, 1], [0, 0, 3]], [2, 2, 1])
"""Supercells that are checked: one site of each kind, and some with images of a site near it."""

LABELINGS = 6
"""Random labelings of each supercell."""

STEPS = 40
"""Steps of a walk: enough that a state worked out wrongly goes on wrongly."""


def check_potential(
    potential: Potential,
    parent: ParentLattice,
    *,
    training: TrainingSet | None = None,
    parse: Callable[[str, ParentLattice], Potential] | None = None,
    seed: int = 0,
) -> None:
    """Check all that holds of a potential.

    Parameters
    ----------
    potential
        Trained, so that its energies tell labelings apart.
    parent
        A lattice of its species.
    training
        Energies that a ``fit``, if it has one, must be able to fit to; energies of the potential
        itself on small cells if None.
    parse
        Reads what its ``text()`` writes; see `latticesearch.potential.registry.Kind`.
    seed
        Of the random labelings.

    Raises
    ------
    AssertionError
        Something does not hold; the message says what.
    """
    missing = [symbol for symbol in parent.species if symbol not in potential.species]
    _demand(not missing, f"the potential's species lack {', '.join(missing)}")
    for matrix in CELLS:
        supercell = Supercell.from_matrix(parent, matrix)
        check_evaluator(potential, supercell, seed=seed)
        check_walk(potential, supercell, seed=seed)
    check_supercells(potential, parent, seed=seed)
    if callable(getattr(potential, "fit", None)):
        check_fit(potential, training or own_energies(potential, parent, seed), seed=seed)
    if parse is not None:
        check_text(potential, parent, parse, seed=seed)


def check_evaluator(potential: Potential, supercell: Supercell, *, seed: int = 0) -> None:
    """Check the energies of labelings of one supercell, and what is derived from them.

    Raises
    ------
    AssertionError
        Something does not hold; the message says what.
    """
    evaluator, rng = evaluator_of(potential, supercell), np.random.default_rng(seed)
    labels = random_labels(supercell, LABELINGS, rng)
    energies = evaluator.energies(labels)
    where = f"in the supercell {supercell.hnf.tolist()}"
    _demand(energies.shape == (len(labels),), f"energies have the shape {energies.shape} {where}")
    _demand(bool(np.isfinite(energies).all()), f"an energy is not finite {where}")
    allowed = TOLERANCE * _scale(energies)
    again = [evaluator.energies(row[None])[0] for row in labels]
    _same(again, energies, allowed, f"an energy depends on the others of the batch {where}")
    for permutation in supercell.site_permutations:
        moved = evaluator.energies(np.ascontiguousarray(labels[:, permutation]))
        _same(moved, energies, allowed, f"energies change under a symmetry of the lattice {where}")
    _check_changes(evaluator, labels, rng, where)
    _check_mean_field(evaluator, labels, energies, where)
    _check_sites(evaluator, labels, energies, where)


def check_walk(potential: Potential, supercell: Supercell, *, seed: int = 0) -> None:
    """Check that a compiled walk announces and reaches the energies of its labelings.

    Raises
    ------
    AssertionError
        Something does not hold; the message says what.
    """
    evaluator, rng = evaluator_of(potential, supercell), np.random.default_rng(seed)
    labels = random_labels(supercell, 1, rng)[0]
    model = evaluator.walk_tables, evaluator.walk_state(labels)
    steps = _random_steps(supercell, rng)
    answers = np.empty((len(steps), 2))
    walk_along(model, steps, answers)
    evaluator.raise_pending()
    asked, visited = _followed(labels, steps)
    where = f"in a walk in the supercell {supercell.hnf.tolist()}"
    before = np.concatenate([labels[None], visited[:-1]])
    energies = [evaluator.energies(rows) * supercell.n_sites for rows in (before, asked, visited)]
    allowed = TOLERANCE * _scale(np.concatenate(energies))
    _same(
        answers[:, 0], energies[1] - energies[0], allowed, f"a change is announced wrongly {where}"
    )
    _same(answers[:, 1], energies[2], allowed, f"the energy of the state is wrong {where}")
    _demand(
        np.array_equal(model[1].labels, visited[-1]), f"the labels of the state are wrong {where}"
    )
    least, site = np.empty(supercell.n_sites), int(rng.integers(supercell.n_sites))
    row_of(model, site, least)
    pairs = np.array([(site, j) for j in range(supercell.n_sites)])
    changes = evaluator.swap_energies(visited[-1], pairs)
    is_swap = visited[-1] != visited[-1][site]
    _demand(
        bool((least[is_swap] <= changes[is_swap] + allowed).all()), f"a row is too high {where}"
    )
    _demand(bool(np.isinf(least[~is_swap]).all()), f"a row has swaps of one species {where}")
    model[1].labels[:] = labels
    begin_again(model)
    _same(model[1].energy, energies[0][:1], allowed, f"a state does not begin again {where}")


def check_supercells(potential: Potential, parent: ParentLattice, *, seed: int = 0) -> None:
    """Check that one crystal has one energy per site, whatever supercell describes it.

    Raises
    ------
    AssertionError
        Something does not hold; the message says what.
    """
    rng = np.random.default_rng(seed)
    for matrix in CELLS:
        small = Supercell.from_matrix(parent, matrix)
        labels = random_labels(small, LABELINGS, rng)
        energies = evaluator_of(potential, small).energies(labels)
        for factors in ([2, 1, 1], [1, 2, 2]):
            large = Supercell.from_matrix(parent, np.diag(factors) @ small.hnf)
            cells = np.tile(large.cell_vectors, (parent.n_basis, 1))
            sites = small.site_of(large.basis_index, cells)
            repeated = evaluator_of(potential, large).energies(
                np.ascontiguousarray(labels[:, sites])
            )
            message = f"energies per site differ in {small.hnf.tolist()} and {large.hnf.tolist()}"
            _same(repeated, energies, TOLERANCE * _scale(energies), message)


def check_fit(potential: Potential, training: TrainingSet, *, seed: int = 0) -> None:
    """Check that a fit is repeatable, tells its errors, and leaves the potential as it was.

    Raises
    ------
    AssertionError
        Something does not hold; the message says what.
    """
    before = energy_errors(potential, training)
    fitted, summary = fit_potential(potential, training, seed=seed)
    again, _ = fit_potential(potential, training, seed=seed)
    _same(
        energy_errors(potential, training), before, 0.0, "a fit changes the potential it began with"
    )
    errors = energy_errors(fitted, training)
    _same(energy_errors(again, training), errors, 0.0, "two fits with one seed differ")
    known = np.concatenate([part.energies for part in training.labelings])
    allowed = 1e3 * TOLERANCE * _scale(known) + 1e-6 * summary.energy_rmse
    _same([summary.energy_rmse], [1e3 * rms(errors)], allowed, "energy_rmse is not that of the fit")
    left_out = np.asarray(summary.left_out_errors)
    _demand(left_out.shape == (len(training),), f"{left_out.shape} left-out errors")
    _demand(bool(np.isfinite(left_out).all()), "a left-out error is not finite")
    _demand(rms(errors) < np.std(known) + TOLERANCE, "a fit is worse than the mean energy")


def check_text(
    potential: Potential,
    parent: ParentLattice,
    parse: Callable[[str, ParentLattice], Potential],
    *,
    seed: int = 0,
) -> None:
    """Check that a potential that was written and read again is the same, to the last bit.

    Raises
    ------
    AssertionError
        Something does not hold; the message says what.
    """
    text = potential.text()  # type: ignore[attr-defined]  # optional, asked for by the caller
    read = parse(text, parent)
    _demand(read.text() == text, "a text that was read is written otherwise")  # type: ignore[attr-defined]
    _demand(tuple(read.species) == tuple(potential.species), "a text gives back other species")
    supercell = Supercell.from_matrix(parent, CELLS[-1])
    labels = random_labels(supercell, LABELINGS, np.random.default_rng(seed))
    one, other = (evaluator_of(model, supercell).energies(labels) for model in (potential, read))
    _same(other, one, 0.0, "a text gives back other energies")
    try:
        parse("no potential\n", parent)
    except InputError as error:
        _demand("\n" not in str(error), "what is wrong with a text is not said in one line")
    else:
        raise AssertionError("any text is read as a potential")


def random_labels(supercell: Supercell, n: int, rng: np.random.Generator) -> Labels:
    """Return random labelings, (n, n_sites), of the species that each site allows."""
    draws = rng.random((n, *supercell.allowed.shape)) * supercell.allowed
    labels: Labels = draws.argmax(axis=2).astype(np.int8)
    return labels


def own_energies(potential: Potential, parent: ParentLattice, seed: int = 0) -> TrainingSet:
    """Return energies of a potential on random labelings of small cells, to fit to."""
    rng = np.random.default_rng(seed)
    parts = []
    for matrix in (*CELLS, [1, 2, 3], [2, 2, 2]):
        supercell = Supercell.from_matrix(parent, matrix)
        batch = Labelings(supercell, np.unique(random_labels(supercell, 12, rng), axis=0))
        energies = evaluator_of(potential, supercell).energies(batch.labels)
        parts.append(LabelledBatch(batch, energies))
    return TrainingSet(tuple(parts))


def _check_changes(
    evaluator: Evaluator, labels: Labels, rng: np.random.Generator, where: str
) -> None:
    """Check flips and swaps against differences of energies of `labels`, (n, n_sites)."""
    supercell = evaluator.supercell
    start = labels[0]
    pairs = rng.integers(supercell.n_sites, size=(LABELINGS, 2))
    sites = rng.integers(supercell.n_sites, size=LABELINGS)
    species = labels[1:, :][np.arange(LABELINGS) % (len(labels) - 1), sites]
    swapped, flipped = np.repeat(start[None], LABELINGS, 0), np.repeat(start[None], LABELINGS, 0)
    swapped[np.arange(LABELINGS)[:, None], pairs] = start[pairs[:, ::-1]]
    flipped[np.arange(LABELINGS), sites] = species
    before, *after = (
        evaluator.energies(rows) * supercell.n_sites for rows in (start[None], swapped, flipped)
    )
    allowed = TOLERANCE * _scale(np.concatenate([before, *after]))
    swaps, flips = (
        evaluator.swap_energies(start, pairs),
        evaluator.flip_energies(start, sites, species),
    )
    _same(swaps, after[0] - before, allowed, f"a swap is no difference of energies {where}")
    _same(flips, after[1] - before, allowed, f"a flip is no difference of energies {where}")


def _check_mean_field(evaluator: Evaluator, labels: Labels, energies: Floats, where: str) -> None:
    """Check that averages are energies where every site is decided, and numbers elsewhere.

    `labels` are (n, n_sites), `energies` (n,), eV per site.
    """
    allowed = evaluator.supercell.allowed
    decided = np.eye(allowed.shape[1])[labels]
    means = evaluator.mean_field_energies(decided)
    message = f"the mean field of a decided labeling is not its energy {where}"
    _same(means, energies, TOLERANCE * _scale(energies), message)
    open_sites = (allowed / allowed.sum(axis=1, keepdims=True))[None]
    mean = evaluator.mean_field_energies(open_sites)
    _demand(bool(np.isfinite(mean).all()), f"a mean field is not finite {where}")
    _demand(evaluator.mean_field_cost >= 1, "mean_field_cost is less than one energy")


def _check_sites(evaluator: Evaluator, labels: Labels, energies: Floats, where: str) -> None:
    """Check what only some models offer: energies of sites, and gradients.

    `labels` are (n, n_sites), `energies` (n,), eV per site.
    """
    allowed = TOLERANCE * _scale(energies)
    if evaluator.has_site_energies:
        means = evaluator.site_energies(labels).mean(axis=1)
        _same(means, energies, allowed, f"site energies do not add up {where}")
    if evaluator.has_gradients:
        rows = evaluator.gradient_rows(labels)
        shape = (len(labels), evaluator.n_parameters)
        _demand(rows.shape == shape, f"gradient rows have the shape {rows.shape}, not {shape}")
        for row, one in zip(rows, labels, strict=True):
            mean = evaluator.site_gradient_rows(one).mean(axis=0)
            _same(mean, row, TOLERANCE * _scale(rows), f"site gradients do not add up {where}")


def _random_steps(supercell: Supercell, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return steps for `walk_along`, (STEPS, 4)."""
    sites = rng.integers(supercell.n_sites, size=(STEPS, 2))
    species = random_labels(supercell, STEPS, rng)[np.arange(STEPS), sites[:, 0]]
    is_swap, is_accepted = rng.integers(2, size=(2, STEPS))
    targets = np.where(is_swap == 1, sites[:, 1], species)
    return np.stack([is_swap, sites[:, 0], targets, is_accepted], axis=1).astype(np.int64)


def _followed(labels: Labels, steps: npt.NDArray[np.int64]) -> tuple[Labels, Labels]:
    """Return the labelings asked about and those reached, (STEPS, n_sites) each."""

    def each() -> Iterator[tuple[Labels, Labels]]:
        here = labels.copy()
        for is_swap, site, target, is_accepted in steps.tolist():
            asked = here.copy()
            if is_swap:
                asked[[site, target]] = here[[target, site]]
            else:
                asked[site] = target
            here = asked if is_accepted else here
            yield asked, here

    asked, reached = zip(*each(), strict=True)
    return np.array(asked), np.array(reached)


def _scale(energies: Floats) -> float:
    """Return the size of energies, (n,), eV; at least 1 meV, below which all are the same."""
    return max(float(np.abs(energies).max()), 1e-3)


def _same(found: npt.ArrayLike, expected: npt.ArrayLike, allowed: float, message: str) -> None:
    difference = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
    _demand(difference <= allowed, f"{message}: by {difference:.3g}, {allowed:.3g} is allowed")


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
