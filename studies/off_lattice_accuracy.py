"""Accuracy and cost of potentials trained on energies, forces and stresses off the lattice.

Usage: python studies/off_lattice_accuracy.py dft.extxyz.gz [--levels 8 12] [--output FOLDER]

The data are those of materialsvirtuallab/snap: Nb-Mo-Ta-W, four elements and five binaries. All
published training frames are fitted to; errors are those of the published test frames. Potentials
and figures that are in the folder already are not computed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import latticesearch as ls
from latticesearch.potential.mtp.offlattice import evaluate

SPECIES = ("Nb", "Mo", "Ta", "W")
WEIGHT = 0.05
"""Å for forces, none for stresses."""


def read_frames(path):
    """Yield all frames with their results; `info` holds the header's entries as text.

    Some hundred times faster than a reader that accepts every dialect of the format.
    """
    with gzip.open(path, "rt") as file:
        for line in file:
            header = next(file)
            rows = [next(file).split() for _ in range(int(line))]
            table = np.array([row[1:7] for row in rows], dtype=float)
            info = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', header))
            cell = np.array(info["Lattice"].strip('"').split(), dtype=float).reshape(3, 3)
            stress = np.array(info["stress"].strip('"').split(), dtype=float).reshape(3, 3)
            atoms = Atoms([row[0] for row in rows], table[:, :3], cell=cell, pbc=True)
            atoms.info = info
            atoms.calc = SinglePointCalculator(
                atoms,
                energy=float(info["energy"]),
                forces=table[:, 3:],
                stress=stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
            )
            yield atoms


def train(frames, level, folder):
    """Return the potential of a level and how long it took, from the folder if it is there."""
    path, figures = folder / f"level{level:02d}.mtp", folder / f"level{level:02d}.json"
    if figures.exists():
        return ls.read_mtp(path, SPECIES), json.loads(figures.read_text())
    basis = ls.MtpBasis(level, SPECIES, cutoff=5.0, min_dist=2.0, radial_size=8)
    known = tuple(atoms for atoms in frames if atoms.info["split"] == "published_train")
    training = ls.TrainingSet(structures=known, force_weight=WEIGHT, stress_weight=WEIGHT)
    started = time.process_time()
    potential, report = ls.fit(basis, training, n_starts=2, seed=0)
    result = {
        "cpu_seconds": time.process_time() - started,
        "n_data": report.n_data,
        "n_parameters": report.n_parameters,
        "energy_rmse": report.energy_rmse,
        "energy_mae": report.energy_mae,
        "force_rmse": report.force_rmse,
        "stress_rmse": report.stress_rmse,
    }
    ls.write_mtp(path, potential)
    figures.write_text(json.dumps(result, indent=1))
    return potential, result


def errors(potential, frames):
    """Return the mean absolute errors, meV/atom and meV/Å, of elemental and binary frames."""
    found = {1: ([], []), 2: ([], [])}
    for atoms in frames:
        result, known = evaluate(potential, atoms), atoms.calc.results
        energies, forces = found[len(set(atoms.symbols))]
        energies.append(1e3 * abs(result.energy - known["energy"]) / len(atoms))
        forces.append(1e3 * np.abs(result.forces - known["forces"]).ravel())
    return [
        float(np.mean(np.concatenate(values) if kind else values))
        for n in (1, 2)
        for kind, values in enumerate(found[n])
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 12])
    parser.add_argument("--output", type=Path, default=Path("runs/off-lattice"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    frames = list(read_frames(arguments.data))
    tests = [atoms for atoms in frames if atoms.info["split"] == "published_test"]
    print("mean absolute errors of the test frames")
    print("level  coefficients  CPU s     elements            binaries")
    print("                            meV/atom   meV/Å    meV/atom   meV/Å")
    for level in arguments.levels:
        potential, figures = train(frames, level, arguments.output)
        row = errors(potential, tests)
        print(
            f"{level:5d} {figures['n_parameters']:13d} {figures['cpu_seconds']:6.0f}"
            f" {row[0]:10.2f} {row[1]:7.0f} {row[2]:11.2f} {row[3]:7.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
