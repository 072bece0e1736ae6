"""Structures for made-up campaigns: the sites of a bcc cell of sixteen atoms, filled in order."""

from __future__ import annotations

from ase.build import bulk


class MadeUp:
    """Gives a structure for every key of a table of candidates."""

    def __init__(self, candidates):
        self.species = [c.removeprefix("x_") for c in candidates.columns if c.startswith("x_")]
        x = candidates[[f"x_{s}" for s in self.species]].to_numpy()
        self.fractions = dict(zip(candidates["key"], x, strict=True))

    def ideal(self, key):
        if key not in self.fractions:
            return None
        atoms = bulk("Mo", "bcc", a=3.2, cubic=True) * (2, 2, 2)
        pairs = zip(self.species, self.fractions[key], strict=True)
        symbols = [s for s, x in pairs for _ in range(round(16 * x))]
        atoms.set_chemical_symbols(symbols)
        return atoms

    def moments(self, key):
        return []

    def relaxed(self, key):
        atoms = self.ideal(key)
        if atoms is not None:
            atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
        return atoms
