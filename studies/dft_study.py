"""What a campaign on real DFT says: every number and figure of its README, from its run directory.

Run: python studies/dft_study.py mo-ta     (seconds; reads studies/mo-ta/run)
writes   studies/mo-ta/results.json   cost, stable structures, what was published for comparison
         studies/mo-ta/structures.csv all structures that were computed
         studies/mo-ta/hull.png       the hull
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
import spglib
from ase.db import connect

import latticesearch as ls

HERE = Path(__file__).resolve().parent
SYMMETRY_TOLERANCE = 1e-4
"""Å; sites are ideal."""


def space_group(atoms):
    """The number of the space group of atoms."""
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    return int(spglib.get_symmetry_dataset(cell, SYMMETRY_TOLERANCE).number)


def computed(run):
    """All structures with an energy, lowest above the hull first; energies in eV/atom."""
    table = run.candidates.dropna(subset=["oracle_energy"]).copy()
    table["space_group"] = [space_group(run.structure(key, relaxed=False)) for key in table["key"]]
    columns = ["formula", "n_atoms", "space_group", "formation_energy", "energy_above_hull", "key"]
    return table[columns].sort_values(["energy_above_hull", "key"]).reset_index(drop=True)


def compared(table, system):
    """Published formation energies beside ours, meV/atom; NaN where ours was not computed."""
    published = pd.read_csv(HERE / "published.csv")
    published = published[published["system"] == system]
    on = ["formula", "space_group", "n_atoms"]
    both = published.merge(table, on=on, how="left", suffixes=("_published", ""))
    rows = []
    for row in both.to_dict("records"):
        ours, theirs = 1000 * row["formation_energy"], 1000 * row["formation_energy_published"]
        rows.append(
            {
                **{name: row[name] for name in [*on, "geometry", "source"]},
                "published": round(theirs, 1),
                "ours": None if pd.isna(ours) else round(ours, 1),
                "difference": None if pd.isna(ours) else round(ours - theirs, 1),
            }
        )
    return rows


def cost(run):
    """Calculations and what they took."""
    rows = list(connect(run.path / "oracle.db").select())
    return {
        "calculations": len(rows),
        "failed": sum(row.status != "done" for row in rows),
        "core_hours": round(sum(row.seconds for row in rows) / 3600, 2),
    }


def results(run, system):
    """All numbers of a study."""
    table = computed(run)
    stable = table[table["energy_above_hull"] < 1e-9].sort_values("formula")
    return table, {
        **cost(run),
        "structures": len(table),
        "candidates": len(run.candidates),
        "stable": [
            {
                "formula": row["formula"],
                "n_atoms": row["n_atoms"],
                "space_group": row["space_group"],
                "formation_energy": round(1000 * row["formation_energy"], 1),
                "key": row["key"],
            }
            for row in stable.to_dict("records")
        ],
        "compared": compared(table, system),
    }


def main():
    """Write the numbers, the table and the figure of a study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="folder of the study, such as mo-ta")
    folder = HERE / parser.parse_args().study
    run = ls.load(folder / "run")
    table, numbers = results(run, "-".join(run.elements))
    table.to_csv(folder / "structures.csv", index=False, float_format="%.6f")
    (folder / "results.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    run.plot().savefig(folder / "hull.png", dpi=150)


if __name__ == "__main__":
    main()
