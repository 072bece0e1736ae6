"""Relax every structure of the quickstart's system with EMT: the truth its hull is tested against.

    python studies/brute_force_quickstart.py --workers 2        (about ten minutes)
    gzip -9 -n brute_force.csv

Restartable: what is in the CSV file already is not computed again. One line per structure:
canonical key, energy in eV/atom (none where the structure left the lattice). The result, all 9808
structures up to eight sites, is tests/data/quickstart_brute_force.csv.gz.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

from latticesearch.campaign import factories
from latticesearch.campaign.settings import read_settings
from latticesearch.enumeration import enumerate_labelings
from latticesearch.oracles import OracleJob, still_on_lattice

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-sites", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", type=Path, default=Path("brute_force.csv"))
    options = parser.parse_args()

    settings = read_settings(
        REPOSITORY / "configs" / "quickstart.toml", [f"oracle.workers={options.workers}"]
    )
    parent = factories.parent_lattice(settings)
    known = read_table(options.table)
    jobs = [
        OracleJob(configuration.key, configuration.to_atoms())
        for batch in enumerate_labelings(parent, max_index=options.max_sites)
        for configuration in batch
        if configuration.key not in known
    ]
    print(f"{len(known)} known, {len(jobs)} to compute")
    compute(jobs, factories.oracle(settings, parent, options.workers), parent, options.table)


def read_table(path: Path) -> dict[str, str]:
    """Return the energies by key, as they stand in the file; "" is a structure set aside."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["key"]: row["energy"] for row in csv.DictReader(file)}


def compute(jobs, oracle, parent, path: Path) -> None:
    """Relax all structures, appending each to the table as it is ready."""
    began, is_new = time.monotonic(), not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["key", "energy"])
        for done, result in enumerate(oracle.run(jobs), start=1):
            usable = result.status == "done" and still_on_lattice(result, parent)
            energy = f"{result.energy / len(result.atoms):.6f}" if usable else ""
            writer.writerow([result.key, energy])
            file.flush()
            if done % 100 == 0:
                rate = done / (time.monotonic() - began)
                print(f"{done} of {len(jobs)}, {rate:.1f} per second", file=sys.stderr)
    oracle.close()


if __name__ == "__main__":
    main()
