"""How well moment tensor potentials learn relaxed DFT energies on the lattice, and how fast.

Five refractory binaries, all 329 decorations of 16 bcc sites and the two pure metals each; see
`refractory.py` for the data. Nothing is tuned by hand: `fit` picks its ridge itself.

folds     5-fold cross-validation over the 329 decorations; the pure metals are always known, as in
          a search. Root mean square error, meV/atom, one number for each seed of the folds.
cutoffs   the same for other cutoffs
curves    the same error after training on n energies (the pure metals among them), median of
          SEEDS random choices
together  one potential for all five binaries, 5 folds
times     CPU seconds of a first fit and of a refit with 20 more structures from its result

Run: python studies/training_accuracy.py [folds cutoffs curves together times] [--results FILE]
(20 minutes on one core). What is done stands in FILE and is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import refractory
from refractory import BINARIES, N_PURE, SPECIES

from latticesearch.lattice import Labelings
from latticesearch.potential import LabelledBatch, MtpBasis, TrainingSet, fit

CUTOFF = 6.0
CUTOFFS = (4.0, 5.0, 6.0, 7.0, 8.0)  # Å; two, three, five, six, nine shells
FOLD_LEVELS = (8, 12, 16)
LEVELS = (6, 8, 10, 12, 16)
SIZES = (15, 25, 50, 100, 200)
FOLD_SEEDS = (0, 1, 2)
SEEDS = 5
TOGETHER_LEVELS = (12, 16)


class Results:
    """Numbers by name, kept in a file of JSON lines."""

    def __init__(self, path):
        self.path, self.known = path, {}
        if path.exists():
            self.known = dict(json.loads(line) for line in path.read_text().splitlines())

    def get(self, name, function, *arguments):
        if name not in self.known:
            self.known[name] = function(*arguments)
            with self.path.open("a") as file:
                file.write(json.dumps([name, self.known[name]]) + "\n")
        return self.known[name]


def rmse(errors):
    return 1e3 * float(np.sqrt(np.mean(np.square(errors))))


def trained(level, species, cell, labels, energies, *, cutoff=CUTOFF, **options):
    part = LabelledBatch(Labelings(cell, labels), energies)
    return fit(MtpBasis(level, species, cutoff=cutoff), TrainingSet((part,)), **options)


def cross_validated(level, cell, labels, energies, seed, cutoff=CUTOFF):
    """Errors of all but the pure metals, (n,), eV per atom."""
    n_pure = len(cell.parent.species)
    errors = np.zeros(len(energies) - n_pure)
    for fold in refractory.random_folds(len(errors), 5, seed):
        seen = np.setdiff1d(np.arange(len(energies)), fold + n_pure)
        known = labels[seen], energies[seen]
        potential, _ = trained(level, cell.parent.species, cell, *known, cutoff=cutoff)
        found = potential.evaluator(cell).energies(labels[fold + n_pure])
        errors[fold] = found - energies[fold + n_pure]
    return errors


def folds(data, results):
    print(
        "5-fold cross-validated RMSE, meV/atom\n\nbinary  "
        + "".join(f"level {level:<15}" for level in FOLD_LEVELS)
    )
    for name in BINARIES:
        case = refractory.binary(name, data)
        row = []
        for level in FOLD_LEVELS:
            found = [
                results.get(
                    f"folds {name} {level} {seed}",
                    lambda *a: rmse(cross_validated(*a)),
                    level,
                    *case,
                    seed,
                )
                for seed in FOLD_SEEDS
            ]
            row.append(" ".join(f"{value:.3f}" for value in found))
        print(f"{name:8}" + "".join(f"{text:<21}" for text in row), flush=True)


def cutoffs(data, results):
    print("\n5-fold RMSE at different cutoffs, meV/atom (first folds)\n")
    print("binary  level" + "".join(f"{f'{cutoff:g} Å':>8}" for cutoff in CUTOFFS))
    for name in BINARIES:
        case = refractory.binary(name, data)
        for level in (12, 16):
            row = [
                results.get(
                    f"cutoff {name} {level} {cutoff}",
                    lambda *a: rmse(cross_validated(*a)),
                    *(level, *case, 0, cutoff),
                )
                for cutoff in CUTOFFS
            ]
            print(f"{name:8}{level:5}" + "".join(f"{value:8.3f}" for value in row), flush=True)


def learning_error(level, n, cell, labels, energies, seed):
    order = N_PURE + np.random.default_rng([seed, 7]).permutation(len(labels) - N_PURE)
    seen = np.concatenate([np.arange(N_PURE), order[: n - N_PURE]])
    unseen = order[n - N_PURE :]
    potential, _ = trained(level, cell.parent.species, cell, labels[seen], energies[seen])
    return rmse(potential.evaluator(cell).energies(labels[unseen]) - energies[unseen])


def curves(data, results):
    print(
        "\nRMSE of unseen energies, meV/atom, after n energies (median of "
        f"{SEEDS} choices)\n\nbinary  level" + "".join(f"{f'n={n}':>8}" for n in SIZES)
    )
    table = np.zeros((len(BINARIES), len(LEVELS), len(SIZES)))
    for b, name in enumerate(BINARIES):
        case = refractory.binary(name, data)
        for k, level in enumerate(LEVELS):
            table[b, k] = [curve_point(name, level, n, case, results) for n in SIZES]
            print(f"{name:8}{level:5}" + "".join(f"{v:8.2f}" for v in table[b, k]), flush=True)
    for k, row in enumerate(np.exp(np.log(table).mean(axis=0))):
        print(f"{'mean':8}{LEVELS[k]:5}" + "".join(f"{value:8.2f}" for value in row))
    print("mean: geometric, over the binaries")


def curve_point(name, level, n, case, results):
    return np.median(
        [
            results.get(f"curve {name} {level} {n} {seed}", learning_error, level, n, *case, seed)
            for seed in range(SEEDS)
        ]
    )


def all_binaries(data):
    """Labels and energies of the four pure metals, then of all binaries' decorations."""
    pure = refractory.pure_energies()
    labels = [np.repeat(np.arange(4, dtype=np.int8)[:, None], 16, axis=1)]
    energies = [np.array([pure[symbol] for symbol in SPECIES])]
    for name in BINARIES:
        labels.append(data[name][0][N_PURE:])
        energies.append(data[name][1][N_PURE:])
    return refractory.cell_of(SPECIES), np.concatenate(labels), np.concatenate(energies)


def together(data, results):
    print(
        "\nOne potential for all five binaries, 5-fold RMSE, meV/atom\n\nlevel   all   "
        + " ".join(f"{name:>6}" for name in BINARIES)
    )
    case = all_binaries(data)
    for level in TOGETHER_LEVELS:
        errors = results.get(
            f"together {level} 0", lambda *a: cross_validated(*a).tolist(), level, *case, 0
        )
        parts = np.array(errors).reshape(len(BINARIES), -1)
        row = " ".join(f"{rmse(part):6.2f}" for part in parts)
        print(f"{level:5}{rmse(errors):6.2f}   {row}", flush=True)


def seconds_of_fits(level, cell, labels, energies):
    """CPU seconds of a first fit and of a warm one with 20 more, and the errors of unseen data."""
    order = N_PURE + np.random.default_rng(3).permutation(len(labels) - N_PURE)
    first = np.concatenate([np.arange(N_PURE), order[:240]])
    more, unseen = np.concatenate([first, order[240:260]]), order[260:]
    species, numbers, initial = cell.parent.species, [], None
    trained(level, species, cell, labels[first[:30]], energies[first[:30]], n_starts=1)  # compile
    for seen in (first, more):
        began = time.process_time()
        initial, _ = trained(level, species, cell, labels[seen], energies[seen], initial=initial)
        numbers.append(time.process_time() - began)
        found = initial.evaluator(cell).energies(labels[unseen])
        numbers.append(rmse(found - energies[unseen]))
    return numbers


def times(data, results):
    print(
        "\nCPU seconds (RMSE of unseen energies, meV/atom)\n\n"
        "binary  level   first fit       20 more, warm"
    )
    for name in BINARIES:
        case = refractory.binary(name, data)
        for level in (8, 12, 16, 20):
            a, b, c, d = results.get(f"times {name} {level}", seconds_of_fits, level, *case)
            print(f"{name:8}{level:5}{a:8.2f} ({b:.3f}){c:12.2f} ({d:.3f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {
        "folds": folds,
        "cutoffs": cutoffs,
        "curves": curves,
        "together": together,
        "times": times,
    }
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts) + " (all)")
    parser.add_argument("--results", type=Path, default=Path("training_accuracy.jsonl"))
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no part {', '.join(unknown)}")
    data, results = refractory.labelled_binaries(), Results(options.results)
    for name in options.parts or parts:
        parts[name](data, results)


if __name__ == "__main__":
    main()
