"""The paragraph for a paper says what was done, and cites it."""

import re
from pathlib import Path

import pytest

from latticesearch.campaign.settings import parse_settings
from latticesearch.oracles.presets.vocabulary import DENSER
from latticesearch.report import computational_details
from latticesearch.report import details as module
from latticesearch.report.references import REFERENCES

CODES = {
    "gpaw": {"cutoff": 400, "kspacing": 0.16},
    "vasp": {"cutoff": 400, "kspacing": 0.16, "dispersion": "d3bj"},
    "espresso": {"cutoff": 600, "kspacing": 0.16, "xc": "PBEsol"},
    "abinit": {"cutoff": 400, "kspacing": 0.16},
    "elk": {"kspacing": 0.16, "parameters": {"rgkmax": 7.0}},
}


def settings(oracle, **sections):
    data = {
        "lattice": {"prototype": "bcc", "a": {"Fe": 2.8, "Co": 2.8}, "species": ["Fe", "Co"]},
        "candidates": {"max_sites": 6},
        "oracle": oracle,
        **sections,
    }
    resolved = parse_settings(data, base=Path()).resolved()
    return resolved | {"environment": {"latticesearch": "9.9", "ase": "3.29"}}


@pytest.mark.parametrize("kind", [*CODES])
def test_numbers_are_those_of_the_list(kind):
    found = computational_details(settings({"kind": kind, **CODES[kind]}), [{"version": "1.2"}])
    text = " ".join(found.sentences)
    numbers = [int(n) for group in re.findall(r"\[([\d, ]+)\]", text) for n in group.split(",")]
    # In the order in which they are first cited, none left out.
    assert list(dict.fromkeys(numbers)) == list(range(1, len(found.references) + 1))
    assert "⟦" not in text
    assert " 1.2 " in text
    assert found.text().splitlines()[2].startswith("[1] ")
    assert found.html().count("<li>") == len(found.references)
    assert any("0.12 Å⁻¹ in pure elements" in one for one in found.sentences)


def test_what_is_known_of_the_calculations_is_said():
    oracle = {
        **CODES["gpaw"],
        "kind": "gpaw",
        "spin": "ferromagnetic",
        "smearing": {"kind": "fermi-dirac", "width": 0.1},
        "elements": {"Fe": {"grid": [20, 20, 20], "hubbard": {"u": 3.0, "j": 1.0}}},
    }
    known = [
        {"moments": [2.2, -2.5], "scf_residual": 1e-6, "told": "x", "datasets": {}},
        {"version": "26.7", "datasets": {"Fe": {"file": "Fe.PBE.gz"}}, "scf_residual": 2e-6},
    ]
    text = computational_details(settings(oracle), known).text()
    for part in (
        "GPAW 26.7",
        "exchange and correlation were those of pbe",
        "up to 400 eV",
        "at most 0.16",
        "20x20x20 in Fe",
        "Fermi-Dirac smearing",
        "of 0.1 eV",
        "Fe: Fe.PBE.gz",
        "U - J = 2 eV (Fe d)",
        "up to 2.50 Bohr magnetons",
        "at most 2.0e-06 eV",
        "1 of the 2 calculations were run by hand",
        "mean volume of the elements",
        "latticesearch 9.9",
        "doi:10.1103/PhysRevLett.77.3865",
    ):
        assert part.lower() in text.lower(), part


@pytest.mark.parametrize(
    ("oracle", "part"),
    [
        ({"kind": "emt"}, "effective medium theory"),
        ({"kind": "manual", "parameters": {"xc": "PBE"}}, "outside of this program (xc = PBE)"),
        ({"kind": "ase", "calculator": "lj", "parameters": {"epsilon": 1.0}}, "epsilon = 1.0"),
        ({"kind": "sevenn"}, "SevenNet"),
        ({"kind": "chgnet", "relax_cell": False, "relax_ions": False}, "unrelaxed"),
    ],
)
def test_other_sources_are_named(oracle, part):
    text = computational_details(settings(oracle), []).text()
    assert part in text
    assert "Plane waves" not in text


def test_the_page_holds_the_paragraph():
    found = computational_details(settings({"kind": "gpaw", **CODES["gpaw"], "xc": "<b>"}), [])
    assert "&lt;B&gt;" in found.html()


def test_every_reference_has_a_way_to_it_and_every_word_a_reference():
    for text in REFERENCES.values():
        assert re.search(r"doi:10\.\d{4,}/\S+$|sourceforge", text), text
    from latticesearch.oracles.presets.vocabulary import SMEARINGS

    assert set(module.SMEARINGS) == set(SMEARINGS) <= set(REFERENCES)
    assert module.DENSER == DENSER
