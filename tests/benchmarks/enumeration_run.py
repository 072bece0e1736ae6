"""One enumeration in a process of its own: CPU seconds after warm-up and peak memory, as JSON.

python -m tests.benchmarks.enumeration_run '{"name": "fcc", "k": 2, "index": 16}'
"""

from __future__ import annotations

import json
import resource
import sys
import time

from latticesearch import ParentLattice
from latticesearch.enumeration import count_labelings, enumerate_labelings

SPECIES = ("Nb", "Mo", "Ta", "W")
REPEATS_BELOW = 2.0


def enumerate_all(case):
    """Return the number of labelings; parent lattice, symmetry and the exact count included."""
    parent = ParentLattice.from_prototype(case["name"], 3.0, SPECIES[: case["k"]])
    options = {}
    sizes = (case.get("index", 1), case.get("index"))
    if "conventional" in case:
        options = {
            "supercell": case["conventional"] * parent.conventional,
            "superperiodic": True,
        }
    composition = case.get("composition")
    return sum(len(batch) for batch in enumerate_labelings(parent, *sizes, composition, **options))


def count_all(case):
    parent = ParentLattice.from_prototype(case["name"], 3.0, SPECIES[: case["k"]])
    matrix = case["conventional"] * parent.conventional
    return count_labelings(
        parent, composition=case["composition"], supercell=matrix, superperiodic=True
    )


def cpu_seconds(function, *arguments):
    """Return the shortest of a few CPU times, and the result."""
    spent = []
    while not spent or (len(spent) < 3 and sum(spent) < REPEATS_BELOW):
        began = time.process_time()
        result = function(*arguments)
        spent.append(time.process_time() - began)
    return min(spent), result


def main():
    case = json.loads(sys.argv[1])
    enumerate_all({"name": "fcc", "k": 2, "index": 13})
    enumerate_all({"name": "fcc", "k": 3, "index": 4, "composition": {"Nb": 0.5}})
    answer = {}
    if "conventional" in case:
        answer["count_seconds"], answer["count"] = cpu_seconds(count_all, case)
    if not case.get("count_only"):
        answer["seconds"], answer["number"] = cpu_seconds(enumerate_all, case)
    answer["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
