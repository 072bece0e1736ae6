"""Kinds of potentials: ours by name, other people's by module and factory."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential import MtpBasis, evaluator_of, kind_of
from tests.potential import foreign

BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
CELL = Supercell.from_matrix(BCC, [1, 1, 2])
LABELS = np.array([[0, 1], [2, 2]], dtype=np.int8)


def test_a_moment_tensor_potential_has_the_form_of_its_parameters():
    parameters = {"level": 6, "cutoff": 4.0, "min_dist": 2.0, "radial_size": 3}
    made = kind_of("mtp").make(BCC, parameters, 7)
    basis = MtpBasis(6, BCC.species, cutoff=4.0, min_dist=2.0, radial_size=3)
    np.testing.assert_array_equal(made.parameters, basis.potential(seed=7).parameters)
    assert (made.kind, made.is_start, made.species) == ("mtp", True, BCC.species)


def test_a_moment_tensor_potential_of_a_file_is_where_a_fit_starts(tmp_path):
    basis = MtpBasis(6, BCC.species, cutoff=4.0, min_dist=2.0)
    given = basis.potential(np.random.default_rng(0).normal(size=basis.n_parameters))
    path = tmp_path / "given.mtp"
    path.write_text(given.text())
    parameters = {"level": 6, "cutoff": 4.0, "min_dist": 2.0, "file": path}
    made = kind_of("mtp").make(BCC, parameters, 0)
    np.testing.assert_array_equal(made.parameters, given.parameters)
    assert not made.is_start
    for name, value, message in (
        ("level", 8, "moment_coeffs have the shape"),
        ("cutoff", 4.5, "has cutoff 4.0 Å, the campaign 4.5 Å; set potential.cutoff = 4.0"),
        ("min_dist", 2.1, "set potential.min_dist = 2.0"),
    ):
        with pytest.raises(InputError, match=message):
            kind_of("mtp").make(BCC, parameters | {name: value}, 0)


def test_a_cluster_expansion_has_shells_of_the_lattice_without_a_word():
    made = kind_of("clusters").make(BCC, {}, 0)
    assert made.basis.pair_cutoff == pytest.approx(2.05 * 3.2 * np.sqrt(3) / 2)
    assert (made.coefficients == 0.0).all()
    longer = kind_of("clusters").make(BCC, {"pairs": 8, "triplets": 5.0}, 0)
    assert longer.basis.n_parameters > made.basis.n_parameters
    none = kind_of("clusters").make(BCC, {"triplets": 0}, 0)
    assert len(none.basis.triplets.centre) == 0


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("mtp", {"cutof": 5.0}, "potential.cutof: a moment tensor potential has level"),
        ("mtp", {"cutoff": 2.0}, "does not reach the nearest neighbours"),
        ("mtp", {"level": 7}, "level 7: must be an even number"),
        ("clusters", {"triples": 5.0}, "parameters.triples: a cluster expansion has pairs"),
        ("clusters", {"pairs": "far"}, "pairs = 'far': a length in Å"),
        ("clusters", {"pairs": 2.0}, "does not reach the nearest neighbours"),
        ("clusters", {"pairs": 4.0, "triplets": 5.0}, "exceeds pairs"),
        (
            "tests.potential.foreign:make",
            {"colour": 1},
            "cannot be made with the parameters .colour.: TypeError",
        ),
        ("tests.potential.foreign:no_model", {}, "makes int, which has no evaluator"),
        ("tests.potential.foreign:of_one_species", {}, "species lack Nb, Ta"),
    ],
)
def test_parameters_that_cannot_be_are_refused_in_one_line(kind, parameters, message):
    with pytest.raises(InputError, match=message) as caught:
        kind_of(kind).make(BCC, parameters, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mpt", "there are 'mtp', 'clusters'"),
        ("tests.potential.nowhere:make", "cannot be imported: ModuleNotFoundError"),
        ("tests.potential.foreign:nothing", "cannot be imported: AttributeError"),
        ("tests.potential.foreign:SCALE", "names float"),
    ],
)
def test_kinds_that_there_are_not_are_refused_in_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        kind_of(name)
    assert "\n" not in str(caught.value)


def test_other_peoples_models_come_from_a_factory():
    kind = kind_of("tests.potential.foreign:make")
    made = kind.make(BCC, {"scale": 2.0}, 0)
    energies = evaluator_of(made, CELL).energies(LABELS)
    np.testing.assert_allclose(energies, [2.0 * 0.5, 2.0 * 2.0])
    assert kind.suffix == "make"
    with pytest.raises(InputError, match="has no parse"):
        kind.parse("", BCC)


def test_other_peoples_models_may_have_a_text():
    kind = kind_of("tests.potential.foreign:Linear")
    made = kind.make(BCC, {"scale": 0.1}, 0)
    assert kind.suffix == "linear"
    read = kind.parse(made.text(), BCC)
    assert isinstance(read, foreign.Linear)
    assert read.scale == made.scale


@pytest.mark.parametrize("kind", ["mtp", "clusters"])
def test_a_text_gives_back_the_same_numbers(kind):
    made = kind_of(kind).make(BCC, {}, 3)
    rng = np.random.default_rng(0)
    if kind == "mtp":
        made = made.with_parameters(rng.normal(size=made.n_parameters) / 3.0)
    else:
        made = type(made)(made.basis, rng.normal(size=made.basis.n_parameters) / 3.0)
    read = kind_of(kind).parse(made.text(), BCC)
    assert read.text() == made.text()
    one, other = (evaluator_of(model, CELL).energies(LABELS) for model in (made, read))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "", "no cluster expansion: line"),
        ("expansion", "extension", "does not say"),
        ('"version": 1', '"version": 2', "version 2 of the format"),
        ('"Ta"', '"W"', "the parent lattice has"),
        ("1.6", "1.7", "another parent lattice: its cell"),
        ('"pair_cutoff": ', '"pair_cutof": ', "pair_cutoff is None"),
        ('"pair_cutoff": ', '"pair_cutoff": -', "must be 0 Å or more"),
        ('"coefficients": [0.0, ', '"coefficients": [', "have"),
        ('"coefficients": [0.0, ', '"coefficients": [NaN, ', "not all finite"),
        ('"coefficients": [0.0, ', '"coefficients": ["a", ', "are no numbers"),
    ],
)
def test_texts_that_are_no_cluster_expansion_are_refused_in_one_line(old, new, message):
    text = kind_of("clusters").make(BCC, {}, 0).text()
    assert old in text
    with pytest.raises(InputError, match=message) as caught:
        kind_of("clusters").parse(text.replace(old, new), BCC)
    assert "\n" not in str(caught.value)
