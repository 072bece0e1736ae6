"""Energies computed before: mapped onto the lattice, and each that is not used has its reason."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from latticesearch.campaign.own_data import disagreements, own_data
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, ParentLattice
from latticesearch.oracles import OracleResult
from latticesearch.storage import RunDirectory
from tests.frames.outputs import vasprun

PURE, PAIR, FOUR = "s1-1.0.0.1.0.1-A", "s2-1.0.0.1.1.2-AB", "s4-1.0.0.2.0.2-AAAB"


@pytest.fixture(scope="module")
def parent():
    return ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))


def atoms_of(parent, key, scale=1.0):
    atoms = Configuration.from_key(parent, key).to_atoms()
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return atoms


def frame(parent, key, per_atom, scale=1.0, force=0.0, pressure=None, **info):
    atoms = atoms_of(parent, key, scale)
    known = {"energy": per_atom * len(atoms), "forces": np.full((len(atoms), 3), force)}
    if pressure is not None:
        known["stress"] = np.array([pressure] * 3 + [0.0] * 3)
    atoms.calc = SinglePointCalculator(atoms, **known)
    atoms.info.update(info)
    return atoms


def save(path, *frames):
    write(path, list(frames))
    return path


def test_structures_get_the_key_of_their_decoration(parent, tmp_path):
    path = save(
        tmp_path / "own.extxyz", frame(parent, PURE, -3.5, 0.95), frame(parent, FOUR, -4.0, 1.04)
    )
    data = own_data([path], parent)
    assert data.energies == pytest.approx({PURE: -3.5, FOUR: -4.0})
    assert data.entries[FOUR].frame.origin == f"{path}#1"
    assert data.entries[FOUR].frame.forces.shape == (4, 3)
    assert data.summary_lines() == ["own data: 2 structures of the lattice in 2 frames"]


def test_every_refusal_has_its_reason(parent, tmp_path):
    foreign, hcp = bulk("Ag", "fcc", a=4.1), bulk("Cu", "hcp", a=2.6)
    for atoms in (foreign, hcp):
        atoms.calc = SinglePointCalculator(atoms, energy=-3.0)
    no_energy = atoms_of(parent, PAIR)
    path = save(tmp_path / "own.extxyz", foreign, hcp, no_energy, frame(parent, PURE, -3.5))
    data = own_data([path], parent)
    assert data.refusals.counts == {
        "with elements that the campaign does not have": 1,
        "no decoration of the lattice": 1,
        "no energy": 1,
    }
    assert len(data.refusals) == data.n_frames - len(data.entries) == 3
    text = "\n".join(data.summary_lines())
    assert f"not used: 1 with elements that the campaign does not have: {path}#0 (Ag)" in text
    assert f"1 no decoration of the lattice: {path}#1" in text


def test_of_two_energies_the_lower_one_counts_in_any_order(parent, tmp_path):
    high, low = frame(parent, PAIR, -4.0, pbe=1), frame(parent, PAIR, -4.05)
    one, two = save(tmp_path / "one.extxyz", high), save(tmp_path / "two.extxyz", low)
    for files in ([one, two], [two, one]):
        data = own_data(files, parent)
        assert data.energies == pytest.approx({PAIR: -4.05})
        assert data.refusals.counts == {"contradicting duplicate": 1}
        (found,) = data.contradictions
        assert found.energies == pytest.approx((-4.05, -4.0))
        assert found.origins == (f"{two}#0", f"{one}#0")
        assert data.summary_lines()[-2:] == [
            "  1 structures have two energies; the lower one counts:",
            f"    CuPd ({PAIR}): -4.0500 eV/atom in {two}#0, -4.0000 eV/atom in {one}#0",
        ]


def test_the_same_energy_twice_contradicts_nothing(parent, tmp_path):
    path = save(tmp_path / "own.extxyz", frame(parent, PAIR, -4.0))
    other = save(tmp_path / "rounded.extxyz", frame(parent, PAIR, -4.00004))
    data = own_data([path, other], parent)
    assert data.refusals.counts == {"duplicate": 1}
    assert data.contradictions == []
    assert data.energies == {PAIR: -4.00004}


def test_steps_of_one_relaxation_do_not_contradict_each_other(parent, tmp_path):
    """Nor where one of them goes too far; what comes later in the file is another matter."""
    steps = zip((-4.0, -4.1, -4.05, -4.2), (1.03, 1.01, 0.98, 1.0), strict=True)
    path = save(
        tmp_path / "own.traj", *(frame(parent, PAIR, e, scale) for e, scale in steps),
        frame(parent, FOUR, -3.9), frame(parent, PAIR, -4.15),
    )  # fmt: skip
    data = own_data([path], parent)
    assert data.energies == pytest.approx({PAIR: -4.2, FOUR: -3.9})
    assert data.refusals.counts == {
        "another step of the same relaxation": 3,
        "contradicting duplicate": 1,
    }
    (found,) = data.contradictions
    assert found.energies == pytest.approx((-4.2, -4.15))


@pytest.mark.parametrize("scale", [1.0, 1.002])
def test_one_structure_twice_in_a_file_contradicts_itself(parent, tmp_path, scale):
    """Nothing moves, or so little that no stress could have changed the energy like that."""
    path = save(
        tmp_path / "own.extxyz",
        frame(parent, PAIR, -4.0, pressure=1e-4),
        frame(parent, PAIR, -4.05, scale, pressure=1e-4),
        frame(parent, PURE, -3.5),
    )
    data = own_data([path], parent)
    assert data.energies == pytest.approx({PAIR: -4.05, PURE: -3.5})
    assert data.refusals.counts == {"contradicting duplicate": 1}
    assert data.summary_lines()[-1] == (
        f"    CuPd ({PAIR}): -4.0500 eV/atom in {path}#1, -4.0000 eV/atom in {path}#0"
    )


def test_moving_atoms_are_mentioned_and_may_be_left_out(parent, tmp_path):
    path = save(
        tmp_path / "own.extxyz", frame(parent, PAIR, -4.0, force=1.0), frame(parent, PURE, -3.5)
    )
    data = own_data([path], parent)
    assert "1 of them with forces above 0.1 eV/Å" in data.summary_lines()[-1]
    data = own_data([path], parent, max_force=0.1)
    assert list(data.entries) == [PURE]
    assert data.refusals.counts == {"with a force above the limit": 1}


def test_a_relaxation_that_ends_as_another_decoration_is_neither(parent, tmp_path):
    start = atoms_of(parent, "s4-1.0.0.1.1.4-AABB")
    end = atoms_of(parent, "s4-1.0.0.1.1.4-AABB")
    end.positions[[1, 2]] = end.positions[[2, 1]]
    (tmp_path / "vasprun.xml").write_text(vasprun([(start, -15.0), (end, -16.0)]))
    data = own_data([tmp_path], parent)
    assert data.entries == {}
    (refusal,) = data.refusals.by_reason["relaxed away from the decoration it began as"]
    assert refusal.detail == f"s4-1.0.0.1.1.4-AABB became {PAIR}"


def test_another_run_is_read_whole(parent, tmp_path):
    from latticesearch.campaign.settings import parse_settings

    settings = {
        "lattice": {"prototype": "fcc", "a": 3.8, "species": ["Pd", "Cu"]},
        "candidates": {"max_sites": 2},
        "oracle": {"kind": "emt"},
    }
    old = ParentLattice.from_prototype("fcc", 3.8, ("Pd", "Cu"))
    with RunDirectory.create(tmp_path / "old") as directory:
        directory.write_settings(parse_settings(settings, base=tmp_path).resolved())
        for key, per_atom, state in (
            (PURE, -3.7, {}),
            (FOUR, -3.9, {}),
            (PAIR, -4.1, {"on_lattice": False}),
        ):
            atoms = atoms_of(old, key, 1.02)
            energy = per_atom * len(atoms)
            result = OracleResult(key, "done", energy, atoms=atoms, converged=True, **state)
            directory.store.append(result, 0)
        failed = OracleResult("s1-1.0.0.1.0.1-B", "failed", atoms=atoms, error="licence server")
        directory.store.append(failed, 0)
    data = own_data([tmp_path / "old"], parent)
    # The old run counted palladium first.
    assert data.energies == pytest.approx({"s1-1.0.0.1.0.1-B": -3.7, "s4-1.0.0.2.0.2-ABBB": -3.9})
    assert data.entries["s1-1.0.0.1.0.1-B"].frame.start is not None
    assert data.refusals.counts == {
        "relaxed away from the decoration it began as": 1,
        "failed in its run": 1,
    }
    assert "licence server" in "\n".join(data.summary_lines())


def test_energies_of_another_method_give_themselves_away(parent, tmp_path):
    path = save(tmp_path / "own.extxyz", frame(parent, PAIR, -4.0), frame(parent, PURE, -3.5))
    data = own_data([path], parent)
    (found,) = disagreements(data, {PURE: -3.6, PAIR: -4.00001, FOUR: -4.0}, "runs/new")
    assert str(found) == f"Cu ({PURE}): -3.6000 eV/atom in runs/new, -3.5000 eV/atom in {path}#1"


def test_a_file_that_is_not_there_is_named(parent, tmp_path):
    with pytest.raises(InputError, match=r"there is no file or folder .*gone.extxyz"):
        own_data([tmp_path / "gone.extxyz"], parent)
