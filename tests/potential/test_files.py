from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latticesearch.errors import InputError
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.files import format_mtp, parse_mtp, read_mtp
from tests.shipped import DATA

SPECIES = ("Nb", "Mo")


@pytest.fixture(scope="module")
def potential():
    return MtpBasis(8, SPECIES, 5.0).potential(seed=1)


@pytest.fixture(scope="module")
def text(potential):
    return format_mtp(potential)


def assert_equal(a, b):
    for field in dataclasses.fields(a):
        # What a file holds is nobody's first guess.
        if field.name != "is_start":
            assert np.array_equal(getattr(a, field.name), getattr(b, field.name)), field.name


def test_round_trip_is_exact(potential, text):
    assert_equal(parse_mtp(text, SPECIES), potential)
    assert format_mtp(parse_mtp(text, SPECIES)) == text


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=26, max_size=26))
def test_round_trip_keeps_every_double(numbers):
    potential = MtpBasis(6, ("A",), 5.0).potential(np.array(numbers)[: 16 + 1 + 5].copy())
    assert_equal(parse_mtp(format_mtp(potential), ("A",)), potential)


@pytest.mark.parametrize(
    ("name", "species"),
    [
        ("MoTaNbTi.mtp", ("Ta", "Ti", "Nb", "Mo")),
        ("Cu.mtp", ("Cu",)),
        ("Li.mtp", ("Li",)),
    ],
)
def test_published_files_round_trip(name, species, shared_data):
    assert_round_trip(shared_data / "mtp" / name, species)


@pytest.mark.parametrize("name", ["random_level08.mtp", "random_level16.mtp"])
def test_files_of_mlip_round_trip(name):
    assert_round_trip(DATA / "mtp" / name, tuple("ABCD"))


def assert_round_trip(path, species):
    potential = read_mtp(path, species)
    assert potential.species == species
    assert_equal(parse_mtp(format_mtp(potential), species), potential)


def test_numbers_land_where_the_file_puts_them():
    potential = read_mtp(DATA / "mtp" / "random_level08.mtp", tuple("ABCD"))
    assert potential.radial_coeffs.shape == (4, 4, 2, 8)
    assert potential.radial_coeffs[0, 1, 1, 2] == -3.699636774906154e-01
    assert potential.radial_coeffs[1, 0, 0, 0] == -1.737904789508020e-01
    assert tuple(potential.species_coeffs) == (-10.1, -10.9, -11.8, -13.0)
    assert (potential.scaling, potential.min_dist, potential.max_dist) == (0.03, 2.0, 6.0)


def test_two_scalings_multiply(potential, text):
    inside = text.replace("\tmin_dist", "\tscaling = 0.5\n\tmin_dist", 1)
    assert parse_mtp(inside, SPECIES).scaling == 0.5 * potential.scaling
    moved = inside.replace(f"scaling = {potential.scaling:.16e}\n", "", 1)
    assert parse_mtp(moved, SPECIES).scaling == 0.5
    none = text.replace(f"scaling = {potential.scaling:.16e}\n", "", 1)
    assert parse_mtp(none, SPECIES).scaling == 1.0


def test_comments_blank_lines_and_windows_line_ends_are_accepted(potential, text):
    commented = "# fitted in March\n\n" + text
    assert_equal(parse_mtp(commented, SPECIES), potential)
    assert_equal(parse_mtp(text.replace("\n", "\r\n"), SPECIES), potential)


def test_active_set_behind_the_potential_is_ignored(potential, text, tmp_path):
    path = tmp_path / "state.mvs"
    path.write_bytes(text.encode() + b"#MVS_v1.1\nenergy_weight = 1\n\x00\xff\x80=\n")
    assert_equal(read_mtp(path, SPECIES), potential)


def test_name_and_tag_survive(potential):
    named = dataclasses.replace(potential, name="my_potential", tag="fitted by hand")
    assert_equal(parse_mtp(format_mtp(named), SPECIES), named)


def test_untrained_file_gives_zeros_and_any_number_of_species(text, caplog):
    lines = text.splitlines()
    start, end = lines.index("\tradial_coeffs"), lines.index("alpha_moments_count = 18")
    untrained = "\n".join(lines[:start] + lines[end:-2])
    potential = parse_mtp(untrained, ("A", "B", "C"))
    assert potential.radial_coeffs.shape == (3, 3, 2, 8)
    assert not potential.parameters.any()
    assert "untrained" in caplog.text


def test_untrained_files_of_mlip3_give_no_number_of_species(text):
    lines = text.splitlines()
    start, end = lines.index("\tradial_coeffs"), lines.index("alpha_moments_count = 18")
    untrained = "\n".join(lines[: start + 1] + lines[end:-2])  # it keeps the word
    untrained = untrained.replace("species_count = 2\n", "")
    assert parse_mtp(untrained, ("A", "B", "C")).radial_coeffs.shape == (3, 3, 2, 8)
    with pytest.raises(InputError, match="holds an unknown number of species without names"):
        parse_mtp(untrained)


def with_types(text, numbers):
    for pair in np.ndindex(2, 2):
        new = f"{numbers[pair[0]]}~{numbers[pair[1]]}"  # not yet to be found by the next pair
        text = edited(text, f"\t\t{pair[0]}-{pair[1]}", f"\t\t{new}")
    return text.replace("~", "-")


def test_types_named_by_atomic_numbers_as_in_mlip3(potential, text):
    named = with_types(text, (41, 42))
    assert_equal(parse_mtp(named), potential)
    assert_equal(parse_mtp(named, SPECIES), potential)
    assert_equal(parse_mtp(with_types(text, (1, 2)), SPECIES), potential)  # counted from one
    with pytest.raises(InputError, match="the file's types are Nb, Mo, the species named Mo, Nb"):
        parse_mtp(named, ("Mo", "Nb"))
    with pytest.raises(InputError, match="without names"):
        parse_mtp(with_types(text, (1, 2)))


@pytest.mark.parametrize(
    "words", [("min_val", "max_val", "basis_size"), ("min", "max", "size")], ids=["mlip3", "motep"]
)
def test_other_words_for_the_radial_interval(potential, text, words):
    for old, new in zip(("min_dist", "max_dist", "radial_basis_size"), words, strict=True):
        text = edited(text, f"\t{old}", f"\t{new}")
    assert_equal(parse_mtp(text, SPECIES), potential)


def edited(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MTP\nversion", "version", r"pot.mtp, line 1: not an .mtp file"),
        ("1.1.0", "1.0.2", r"pot.mtp, line 2: format version 1.0.2 is not supported"),
        ("version = 1.1.0\n", "", "format version none"),
        ("RBChebyshev", "RBShapeev", r"line 7: radial_basis_type: 'RBShapeev' is not supported"),
        ("RBChebyshev", "RBChebyshev_repuls", "RBChebyshev_repuls"),
        ("species_count = 2", "species_count = two", r"line 5: species_count: 'two'"),
        ("species_count = 2", "species_count = 3", "holds 3 species, but 2 are named"),
        ("max_dist = 5", "max_dist = 1", "0 <= min_dist < max_dist does not hold"),
        (
            "max_dist = 5",
            "max_dist = x5",
            "line 9: max_dist: 'x5.0000000000000000e\\+00' is not a num",
        ),
        (
            "radial_basis_size = 8",
            "radial_basis_size = 9",
            "line 14: radial_coeffs: expected 9 numbers",
        ),
        ("radial_funcs_count = 2", "radial_funcs_count = 3", "need 16 lines, found 12"),
        ("0-1", "0-0", r"types must be distinct, found \[0, 0\]"),
        ("1-0", "0-0", "line 19: radial_coeffs: expected 1-0: '0-0'"),
        ("0-1", "0+1", r"line 16: radial_coeffs: expected a pair of types: '0\+1'"),
        ("alpha_moments_count = 18", "alpha_moments_count = 12", "moments must be 0 to 11"),
        ("basic_count = 11", "basic_count = 12", "expected 12 rows, found 11"),
        ("{1, 0, 0, 0}", "{2, 0, 0, 0}", "radial ones below 2"),
        ("{1, 0, 0, 0}", "{0.5, 0, 0, 0}", "not integers"),
        ("alpha_scalar_moments = 9", "alpha_scalar_moments = 8", "expected 8 numbers, found 9"),
        ("moment_coeffs = {", "moment_coeffs = {nan, ", "expected 9 numbers, found 10"),
        ("min_dist = 2.0000000000000000e+00", "min_dist = 1e999", "line 8: min_dist: inf is not"),
        (
            "potential_tag = ",
            "magnetic_basis_type = BChebyshev",
            "line 6: magnetic_basis_type: potentials with magnetic moments are not supported",
        ),
        ("potential_tag = ", "L = 4", "spherical-harmonics"),
        ("potential_tag = ", "atomic_radius = 1", "unknown entry 'atomic_radius'"),
        ("species_count = 2\n", "", "the file ends without species_count"),
        ("potential_tag = ", "species_count = 2", "line 5: species_count: found again on line 6"),
        ("potential_tag = ", "scaling = 1\nscaling = 1", "scaling: found again"),
        ("\nspecies_coeffs", "\n#", "line 32: unknown entry '#'"),
    ],
)
def test_unsupported_and_broken_files_are_refused(text, tmp_path, old, new, message):
    path = tmp_path / "pot.mtp"
    path.write_text(edited(text, old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_mtp(path, SPECIES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.02, 0.2, 0.5, 0.8, 0.97, 0.999])
def test_truncated_files_are_refused(text, keep):
    with pytest.raises(InputError):
        parse_mtp(text[: int(keep * len(text))], SPECIES)


def test_products_used_before_they_are_complete_are_refused(text):
    start = text.index("alpha_index_times = {")
    end = text.index("\n", start)
    rows = text[start:end].removeprefix("alpha_index_times = {{").removesuffix("}}").split("}, {")
    reversed_rows = "alpha_index_times = {{" + "}, {".join(rows[::-1]) + "}}"
    with pytest.raises(InputError, match="used before its last term"):
        parse_mtp(text[:start] + reversed_rows + text[end:], SPECIES)


@pytest.mark.parametrize(
    ("species", "message"),
    [
        (None, r"holds 2 species without names: give a tuple of symbols"),
        ("NbMo", "give a tuple of symbols"),
        (("Nb",), "holds 2 species, but 1 are named"),
        (("Nb", "Nb"), "distinct"),
        ((), "distinct"),
    ],
)
def test_species_must_name_each_type(text, species, message):
    with pytest.raises(InputError, match=message):
        parse_mtp(text, species)


def test_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none\.mtp: cannot be read \(No such file"):
        read_mtp(tmp_path / "none.mtp", SPECIES)
