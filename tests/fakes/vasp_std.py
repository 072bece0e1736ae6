"""Stands for VASP: reads its four inputs, complains as it would, and writes what it would.

The energies are those of effective medium theory. Run as a program in the folder of the inputs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ase.calculators.emt import EMT
from ase.io import read

from tests.frames.outputs import outcar, vasprun

ELECTRONIC_STEPS = 12


def incar():
    pairs = (line.split("=", 1) for line in Path("INCAR").read_text().splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def check_potcar(atoms):
    """Refuse a POTCAR that does not list the elements in the order of the POSCAR."""
    titles = [line.split() for line in Path("POTCAR").read_text().splitlines() if "PAW_" in line]
    kinds = [title[1].partition("_")[0] for title in titles]
    if kinds != list(dict.fromkeys(atoms.symbols)):
        sys.exit(f"POTCAR has {kinds}")


def main():
    tags, atoms = incar(), read("POSCAR")
    kpoints = Path("KPOINTS").read_text().split("\n")
    assert kpoints[2].strip() == "Gamma", "Monkhorst-Pack grids of even numbers miss it"
    check_potcar(atoms)
    with Path("calls").open("a", encoding="utf-8") as calls:
        calls.write(f"{kpoints[3]}\n")
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    needed = 120 if "slow" in Path("POTCAR").read_text() else ELECTRONIC_STEPS
    steps = min(needed, int(tags["NELM"]))
    Path("vasprun.xml").write_text(vasprun([(atoms, energy)], cycles=steps))
    reason = "EDIFF is reached" if steps == needed else "hard stop"
    text = [
        " vasp.6.4.2 20Jul23 (build) complex",
        f"   EDIFF  = {tags['EDIFF']}   stopping-criterion",
    ]
    text += ["   number of k-points  NKPTS = 1  number of bands    NBANDS=   12"]
    text += [outcar([(atoms, energy)], cycles=steps)]
    text += [f"------------------------ aborting loop because {reason} ----"]
    if tags["ISPIN"] == "2":
        text += magnetization(tags["MAGMOM"], len(atoms))
    Path("OUTCAR").write_text("\n".join(text) + "\n")
    changes = [f"DAV:  {n}    {energy:.6E}   {10.0**-n:.5E}  -0.1E-07" for n in range(1, steps + 1)]
    Path("OSZICAR").write_text("\n".join(["       N       E       dE", *changes, ""]))
    Path("CONTCAR").write_text(Path("POSCAR").read_text())


def magnetization(magmom, n_atoms):
    """Return what stands in OUTCAR where nothing has changed the moments of the start."""
    moments = []
    for item in magmom.split():
        times, star, value = item.partition("*")
        moments += [float(value)] * int(times) if star else [float(times)]
    assert len(moments) == n_atoms
    total = f" number of electron   10.0 magnetization {sum(moments):.4f}"
    head = [" magnetization (x)", "", "# of ion       s       p       d       tot", "-" * 42]
    return [total, *head, *(f"{n}  0.0 0.0 0.0 {m:.3f}" for n, m in enumerate(moments, start=1))]


if __name__ == "__main__":
    main()
