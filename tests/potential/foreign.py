"""Factories of other people, as `kind = "tests.potential.foreign:..."` names them."""

from __future__ import annotations

from types import SimpleNamespace

SCALE = 1.0


class Linear:
    """The mean number of the species of a site, scaled; has a text."""

    def __init__(self, species, scale=SCALE):
        self.species, self.scale = species, scale

    def evaluator(self, supercell):
        return SimpleNamespace(energies=lambda labels: self.scale * labels.mean(axis=1))

    def text(self):
        return f"{' '.join(self.species)} {self.scale!r}"

    @classmethod
    def parse(cls, text):
        *species, scale = text.split()
        return cls(tuple(species), float(scale))


def make(species, scale=SCALE):
    return Linear(species, scale)


def of_one_species(species):
    return Linear(species[:1])


def no_model(species):
    return 3
