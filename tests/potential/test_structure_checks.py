"""Structures that a fit refuses."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from latticesearch.errors import InputError
from latticesearch.potential.mtp.offlattice.structure_checks import check_structures

SPECIES = ("Cu", "Au")


def structures():
    """Cells of 1 to 6 atoms, near -4 and -3 eV per atom."""
    found = []
    for n in range(1, 7):
        rng = np.random.default_rng(n)
        atoms = bulk("Cu", "fcc", a=3.8) * (1, 1, n)
        atoms.symbols = rng.choice(SPECIES, n)
        atoms.rattle(0.05, rng=rng)
        counts = [atoms.get_chemical_symbols().count(symbol) for symbol in SPECIES]
        energy = float(np.dot(counts, [-4.0, -3.0]) + 0.02 * n * rng.normal())
        results = {"energy": energy, "forces": np.zeros((n, 3)), "stress": np.zeros(6)}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def test_good_structures_and_near_duplicates_pass():
    good = structures()
    copy = good[2].copy()
    copy.calc = SinglePointCalculator(copy, energy=good[2].calc.results["energy"] + 0.05)
    check_structures([*good, copy], SPECIES)
    check_structures([], SPECIES)


def set_result(key, value):
    return lambda atoms: atoms.calc.results.__setitem__(key, value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda atoms: setattr(atoms, "calc", None), r"structure 3 \(\w+\) has no energy"),
        (set_result("energy", np.nan), "the energy of training structure 3 .* not finite"),
        (set_result("forces", np.full((4, 3), np.inf)), "the forces of .* not finite"),
        (set_result("forces", np.zeros((2, 3))), r"must have the shape \(4, 3\), not \(2, 3\)"),
        (set_result("stress", np.zeros((3, 3))), r"must have the shape \(6,\), not \(3, 3\)"),
        (lambda atoms: atoms.symbols.__setitem__(0, "Ag"), "contains Ag, the basis only Cu, Au"),
        (lambda atoms: atoms.positions.__setitem__((0, 0), np.nan), "positions or cell of"),
    ],
)
def test_structures_without_proper_results_are_refused(spoil, message):
    bad = structures()
    spoil(bad[3])
    with pytest.raises(InputError, match=message) as caught:
        check_structures(bad, SPECIES)
    assert "\n" not in str(caught.value)


def test_energies_per_atom_are_refused():
    bad = structures()
    for atoms in bad:
        atoms.calc.results["energy"] /= len(atoms)
    with pytest.raises(InputError, match="give the energies of the cells"):
        check_structures(bad, SPECIES)


def test_one_structure_with_two_energies_is_refused():
    good = structures()
    order = np.random.default_rng(0).permutation(len(good[4]))
    copy = good[4][order]
    copy.positions += [0.3, 1.0, -5.0]
    copy.wrap()
    energy = good[4].calc.results["energy"] + 0.06 * len(copy)
    copy.calc = SinglePointCalculator(copy, energy=energy)
    copy = copy[np.argsort(order)]  # the first atom decides about the shift
    copy.calc = SinglePointCalculator(copy, energy=energy)
    with pytest.raises(InputError, match=r"structure 4 .* and 6 are the same structure, but have"):
        check_structures([*good, copy], SPECIES)
