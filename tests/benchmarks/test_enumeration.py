"""All ordered structures of one size: our enumeration against icet's and CASM's.

CPU seconds after warm-up, minimum of several repeats, parent lattice and symmetry included; peers
in the same run. Nothing is asserted about absolute times.
    pip install '.[bench]' && pytest -m benchmark -s tests/benchmarks/test_enumeration.py
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk

from tests.benchmarks.enumeration_run import SPECIES, cpu_seconds, enumerate_all

pytestmark = pytest.mark.benchmark

HALF = {"Nb": 0.5, "Mo": 0.5}

TARGETS = (
    ({"name": "fcc", "k": 2, "index": 16}, 95_837),
    ({"name": "fcc", "k": 2, "index": 18}, 417_268),
    ({"name": "fcc", "k": 2, "index": 20}, 1_715_551),
    ({"name": "fcc", "k": 2, "index": 22}, None),
    ({"name": "fcc", "k": 2, "index": 24}, None),
    ({"name": "bcc", "k": 3, "index": 12}, 734_567),
    ({"name": "bcc", "k": 4, "index": 10}, 938_454),
    ({"name": "bcc", "k": 4, "index": 12}, None),
    ({"name": "hcp", "k": 2, "index": 8}, 82_620),
    ({"name": "hcp", "k": 2, "index": 10}, None),
    ({"name": "hcp", "k": 2, "index": 11}, None),
    ({"name": "fcc", "k": 2, "index": 20, "composition": HALF}, None),
)

FIXED = tuple(
    {"name": "fcc", "k": 2, "conventional": 2, "composition": {"Nb": n / 32, "Mo": 1 - n / 32}}
    for n in (4, 8, 16, 24, 28)
) + tuple(
    {"name": "bcc", "k": 4, "conventional": 3, "composition": composition, "count_only": only}
    for composition, only in (
        ({"Nb": 51 / 54, "Mo": 1 / 54, "Ta": 1 / 54, "W": 1 / 54}, False),
        ({"Nb": 48 / 54, "Mo": 2 / 54, "Ta": 2 / 54, "W": 2 / 54}, False),
        ({"Nb": (0.2, 0.3), "Mo": (0.1, 0.6), "Ta": (0.1, 0.6)}, True),
    )
)


def _measured(case):
    """Run a case in a process of its own."""
    words = [sys.executable, "-m", "tests.benchmarks.enumeration_run", json.dumps(case)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _label(case):
    words = [case["name"], f"{case['k']} species"]
    words += [f"n = {case['index']}"] if "index" in case else []
    words += [str(case["composition"])] if "composition" in case else []
    return ", ".join(words)


@pytest.mark.parametrize(("case", "known"), TARGETS)
def test_time_and_memory_of_one_size(case, known, capsys):
    found = _measured(case)
    assert known in {None, found["number"]}
    assert found["megabytes"] < 400
    with capsys.disabled():
        print(
            f"\n{_label(case)}: {found['number']} in {found['seconds']:.3f} s, "
            f"{found['megabytes']:.0f} MB"
        )


@pytest.mark.parametrize("case", FIXED)
def test_fixed_supercells(case, capsys):
    found = _measured(case)
    assert found.get("number", found["count"]) == found["count"]
    with capsys.disabled():
        text = f"\n{_label(case)}: {found['count']} counted in {found['count_seconds']:.3f} s"
        if "seconds" in found:
            text += f", enumerated in {found['seconds']:.2f} s"
        print(f"{text}, {found['megabytes']:.0f} MB")


def _icet(name, k, index):
    tools = pytest.importorskip("icet.tools")
    atoms = bulk("Nb", name, a=3.0, **({"c": 3.0 * (8 / 3) ** 0.5} if name == "hcp" else {}))
    return sum(1 for _ in tools.enumerate_structures(atoms, [index], list(SPECIES[:k])))


def _casm(name, k, index):
    xtal = pytest.importorskip("libcasm.xtal")
    configuration = pytest.importorskip("libcasm.configuration")
    enumeration = pytest.importorskip("libcasm.enumerate")
    atoms = bulk("Nb", name, a=3.0, **({"c": 3.0 * (8 / 3) ** 0.5} if name == "hcp" else {}))
    prim = xtal.Prim(
        xtal.Lattice(np.array(atoms.cell).T),
        atoms.get_scaled_positions().T,
        [list(SPECIES[:k])] * len(atoms),
    )
    supercells = configuration.SupercellSet(configuration.Prim(prim))
    lister = enumeration.ConfigEnumAllOccupations(supercells.prim(), supercells)
    return sum(1 for _ in lister.by_supercell(min=index, max=index))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "k", "index"),
    [("fcc", 2, 10), ("fcc", 2, 12), ("fcc", 2, 14), ("bcc", 3, 6), ("hcp", 2, 5), ("hcp", 2, 6)],
)
def test_structures_of_one_size_against_peers(name, k, index, capsys):
    case = {"name": name, "k": k, "index": index}
    enumerate_all({**case, "index": 4})
    seconds, number = cpu_seconds(enumerate_all, case)
    lines = [f"\n{name}, {k} species, {index} cells, {number} structures: {seconds:.4f} s"]
    # icet needs about seven times as long for every two cells more.
    peers = {"CASM": _casm, "icet": _icet} if number < 10_000 else {"CASM": _casm}
    for peer, function in peers.items():
        function(name, k, 2)
        theirs, same = cpu_seconds(function, name, k, index)
        assert same == number
        lines.append(f"{peer} {theirs:.3f} s ({theirs / seconds:.0f}x)")
    with capsys.disabled():
        print(", ".join(lines))
