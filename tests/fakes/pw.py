"""Stands for pw.x: reads its input and writes what it would, by effective medium theory."""

from __future__ import annotations

import sys
from pathlib import Path

from ase.calculators.emt import EMT
from ase.io import read
from ase.io.espresso import read_fortran_namelist

from tests.frames.outputs import pw_out


def main():
    source = sys.argv[sys.argv.index("-in") + 1]
    with Path(source).open(encoding="utf-8") as file:
        namelists, cards = read_fortran_namelist(file)
    atoms = read(source, format="espresso-in")
    grid = cards[next(i for i, line in enumerate(cards) if "K_POINTS" in line) + 1].split()
    assert grid[3:] == ["0", "0", "0"], "the grid is not centred at Γ"
    for line in cards:
        if line.strip().lower().endswith(".upf"):
            folder = Path(namelists["control"]["pseudo_dir"])
            assert (folder / line.split()[2]).is_file(), line
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    converges = namelists["electrons"]["electron_maxstep"] >= (200 if len(atoms) == 2 else 0)
    head, _, rest = pw_out([(atoms, energy)], converged=converges).partition("!")
    accuracy = "     estimated scf accuracy    <       2.0E-10 Ry\n"
    end = "     convergence has been achieved in  9 iterations\n" if converges else ""
    print(f"{head}{accuracy}!{rest}{end}")  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
