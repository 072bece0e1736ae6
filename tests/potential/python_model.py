"""A model as other people write it: pure Python, energies of labelings and nothing else."""

from __future__ import annotations

from types import SimpleNamespace


class PythonModel:
    """Energies of another model, asked from Python; may fail at the n-th labeling."""

    kind = "python"

    def __init__(self, model, fails_at=None, error=None):
        self.model, self.species = model, model.species
        self.fails_at, self.error = fails_at, error
        self.asked = 0

    def evaluator(self, supercell):
        inner = self.model.evaluator(supercell)

        def energies(labels):
            self.asked += len(labels)
            if self.fails_at is not None and self.asked >= self.fails_at:
                raise self.error
            return inner.energies(labels)

        return SimpleNamespace(energies=energies)
