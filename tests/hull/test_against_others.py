from __future__ import annotations

import csv
import gzip
import re

import numpy as np
import pytest

from latticesearch.hull import Hull
from tests.hull.test_hull import random_alloy

SYSTEMS = {
    "Mo-Nb": "NbMo_SS",
    "Mo-Ta": "MoTa_SS",
    "Mo-W": "MoW_SS",
    "Nb-Ta": "NbTa_SS",
    "Ta-W": "TaW_SS",
}


def relaxed_frames(path):
    """Yield group, index, species and energy of relaxed frames, without a slow general reader."""
    with gzip.open(path, "rt") as file:
        lines = iter(file)
        for line in lines:
            header = dict(re.findall(r"(\w+)=(\S+)", next(lines)))
            species = [next(lines).split()[0] for _ in range(int(line))]
            if header.get("tag") == "relax":
                index, energy = int(header["orig_index"]), float(header["energy"])
                yield header["group"], index, species, energy


@pytest.fixture(scope="module")
def refractory(shared_data):
    """Frames, pure energies and published hull rows of Nb-Mo-Ta-W."""
    folder = shared_data / "nbmotaw_vasp"
    with (folder / "pure_references.csv").open() as file:
        pure = {row["element"]: float(row["E_eV_per_atom"]) for row in csv.DictReader(file)}
    with (folder / "hull_16_sites_relaxed.csv").open() as file:
        published = list(csv.DictReader(file))
    return list(relaxed_frames(folder / "dft.extxyz.gz")), pure, published


@pytest.mark.parametrize("system", SYSTEMS)
def test_relaxed_dft_hull_of_16_site_cells(refractory, system):
    frames, pure, published = refractory
    pair = system.split("-")
    cells = [frame for frame in frames if frame[0] == SYSTEMS[system]]
    assert len(cells) == 329
    x = np.vstack([np.eye(2), [[names.count(s) / 16 for s in pair] for *_, names, _ in cells]])
    e = np.array([pure[s] for s in pair] + [energy / 16 for *_, energy in cells])
    hull = Hull(x, e, species=pair)
    inner = hull.vertices >= 2
    found = {
        cells[v - 2][1]: (1000 * hull.formation_energies[v], -1000 * stability)
        for v, stability in zip(hull.vertices[inner], hull.stabilities[inner], strict=True)
    }
    expected = {
        int(row["entry"].rsplit(":", 1)[1]): (
            float(row["Ef_meV_atom"]),
            float(row["stability_meV_atom"]),
        )
        for row in published
        if row["system"] == system
    }
    assert found.keys() == expected.keys()
    for entry, numbers in expected.items():
        assert found[entry] == pytest.approx(numbers, abs=0.0015)


@pytest.mark.parametrize("n_species", [2, 3, 4])
def test_equals_pymatgen(n_species):
    entries = pytest.importorskip("pymatgen.analysis.phase_diagram")
    from pymatgen.core import Composition

    x, e = random_alloy(n_species, 60, 11)
    symbols = ["Nb", "Mo", "Ta", "W"][:n_species]
    points = [
        entries.PDEntry(Composition(dict(zip(symbols, row, strict=True))), energy)
        for row, energy in zip(x, e, strict=True)
    ]
    diagram = entries.PhaseDiagram(points)
    hull = Hull(x, e)
    theirs = [diagram.get_e_above_hull(point) for point in points]
    np.testing.assert_allclose(hull.energies_above_hull, theirs, atol=1e-7)
    np.testing.assert_allclose(
        hull.formation_energies, [diagram.get_form_energy_per_atom(p) for p in points], atol=1e-9
    )
    reaction = [
        -diagram.get_equilibrium_reaction_energy(points[v]) for v in hull.vertices[n_species:]
    ]
    np.testing.assert_allclose(hull.stabilities[n_species:], reaction, atol=1e-7)


@pytest.mark.parametrize("n_species", [3, 4])
def test_many_points_are_judged_as_each_alone(n_species):
    x, e = random_alloy(n_species, 5000, 0, n_sites=16)
    hull = Hull(x, e)
    probes = np.random.default_rng(0).dirichlet(np.ones(n_species), 100_000)
    above = hull.energy_above_hull(probes, np.zeros(len(probes)))
    assert (above > 0).all()
    for i in range(0, len(probes), 5000):
        alone = hull.energy_above_hull(probes[i : i + 1], np.zeros(1))
        np.testing.assert_allclose(above[i : i + 1], alone, atol=1e-12)
