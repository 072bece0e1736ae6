"""Every kind of potential fulfils the contract; what does not is told so."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from latticesearch.lattice import ParentLattice
from latticesearch.potential import MtpBasis, kind_of, testing
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from tests.potential.foreign import Linear
from tests.potential.python_model import PythonModel

BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Ta"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", 4.3, (("Ti", "Hf"), ("N", "X")))


def mtp(parent):
    basis = MtpBasis(6, parent.species, cutoff=4.4, min_dist=1.9, radial_size=4)
    return basis.potential(np.random.default_rng(1).normal(size=basis.n_parameters))


def clusters(parent):
    return ClusterModel.random(ClusterBasis.of(parent, 5.0, 4.4), 0, pair=0.03, triplet=0.02)


def parse(kind):
    return kind_of(kind).parse


CASES = {
    "mtp": (mtp(BCC), BCC, parse("mtp")),
    "mtp, two sublattices with vacancies": (mtp(ROCKSALT), ROCKSALT, parse("mtp")),
    "clusters": (clusters(BCC), BCC, parse("clusters")),
    "clusters, two sublattices": (clusters(ROCKSALT), ROCKSALT, parse("clusters")),
    "energies alone": (PythonModel(clusters(BCC)), BCC, None),
}


@pytest.mark.parametrize(("model", "parent", "read"), CASES.values(), ids=CASES)
def test_every_kind_fulfils_the_contract(model, parent, read):
    testing.check_potential(model, parent, parse=read)


def test_a_factory_of_other_people_fulfils_it():
    kind = kind_of("tests.potential.foreign:Linear")
    made = kind.make(BCC, {"scale": 0.1}, 0)
    with pytest.raises(AssertionError, match="any text is read"):
        testing.check_potential(made, BCC, parse=lambda text, parent: made)
    testing.check_potential(made, BCC)


class Wrong(Linear):
    """A model with one fault."""

    def __init__(self, energies):
        super().__init__(BCC.species)
        self.answer = energies

    def evaluator(self, supercell):
        return SimpleNamespace(energies=self.answer)


@pytest.mark.parametrize(
    ("energies", "message"),
    [
        (lambda labels: labels.sum(axis=1) * 1.0, "energies per site differ"),
        (lambda labels: labels[:, 0] * 1.0, "under a symmetry"),
        (lambda labels: labels.mean(axis=1) - labels.mean(), "depends on the others"),
    ],
)
def test_energies_that_cannot_be_are_told(energies, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_potential(Wrong(energies), BCC)


def test_a_fit_that_tells_nothing_of_its_errors_is_asked_five_times_more():
    class Shifted(Linear):
        fits = 0

        def fit(self, training, *, seed):
            Shifted.fits += 1
            x = np.concatenate([part.batch.labels.mean(axis=1) for part in training.labelings])
            y = np.concatenate([part.energies for part in training.labelings])
            return Shifted(self.species, float(x @ y / (x @ x)))

    model = Shifted(BCC.species, 0.3)
    testing.check_potential(model, BCC)
    assert Shifted.fits == 2 * 6
