from __future__ import annotations

import pytest

from latticesearch.enumeration import count_labelings, enumerate_labelings
from latticesearch.enumeration.counting import Counter
from latticesearch.enumeration.shares import shares
from latticesearch.lattice import ParentLattice, Supercell
from tests.fake_comm import run_ranks

FCC = ParentLattice.from_prototype("fcc", 3.0, ("Cu", "Au"))


class Heard:
    def __init__(self):
        self.total, self.steps, self.finished = None, [], 0

    def start(self, task, total):
        self.total = total

    def advance(self, done):
        self.steps.append(done)

    def finish(self):
        self.finished += 1


def test_the_exact_number_is_told_before_the_first_labeling():
    heard = Heard()
    batches = enumerate_labelings(FCC, 1, 9, batch_size=50, progress=heard)
    first = next(batches)
    total = sum(count_labelings(FCC, n) for n in range(1, 10))
    assert heard.total == total
    assert heard.steps == [len(first)]
    assert heard.finished == 0
    rest = sum(len(batch) for batch in batches)
    assert len(first) + rest == heard.steps[-1] == total
    assert heard.steps == sorted(heard.steps)
    assert heard.finished == 1


@pytest.mark.parametrize("size", [2, 4])
def test_every_rank_hears_of_the_whole(size):
    heard = [Heard() for _ in range(size)]

    def work(comm):
        batches = enumerate_labelings(FCC, 1, 8, comm=comm, progress=heard[comm.rank])
        return sum(len(batch) for batch in batches)

    total = sum(run_ranks(size, work))
    for listener in heard:
        assert listener.total == total
        assert 0.9 * total < listener.steps[-1] <= total


class Rank:
    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 4, 64])
def test_supercells_are_dealt_out_evenly_and_once(size):
    numbers = [5000, 3, 40, 40, 39, 800, 790, 810, 0, 120] * 5
    dealt = [shares(numbers, [20] * len(numbers), Rank(rank, size)) for rank in range(size)]
    for item in range(len(numbers)):
        owners = [d[item] for d in dealt if d[item] is not None]
        assert len(owners) == owners[0].size
        assert sorted(s.rank for s in owners) == list(range(len(owners)))
    loads = [sum(n / s.size for n, s in zip(numbers, d, strict=True) if s) for d in dealt]
    assert max(loads) < 1.2 * sum(numbers) / size + 100


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    "arguments",
    [
        {"min_index": 12, "max_index": 14},
        {"supercell": 2 * FCC.conventional, "composition": {"Cu": 0.25}},
        {"supercell": (1, 1, 20)},
    ],
)
def test_no_rank_has_much_more_than_its_share(size, arguments):
    def work(comm):
        return sum(len(batch) for batch in enumerate_labelings(FCC, comm=comm, **arguments))

    numbers = run_ranks(size, work)
    assert max(numbers) < 1.15 * sum(numbers) / size


def test_a_split_supercell_with_a_wrong_number_is_an_error_on_all_ranks(monkeypatch):
    cell = Supercell.from_matrix(FCC, 2 * FCC.conventional)
    right = Counter.number

    def wrong(self, group):
        return right(self, group) + 1

    monkeypatch.setattr(Counter, "number", wrong)

    def work(comm):
        with pytest.raises(RuntimeError) as caught:
            for _ in enumerate_labelings(FCC, None, None, {"Cu": 0.25}, supercell=cell, comm=comm):
                pass
        return str(caught.value)

    first, second = run_ranks(2, work)
    assert first == second
    assert "found 7976 labelings of the supercell [[2, 0, 0], [0, 2, 0], [0, 0, 8]]" in first or (
        f"of the supercell {cell.hnf.tolist()}" in first
    )
    assert "found 7976 labelings" in first
    assert "lemma gives 7977" in first


def test_ranks_that_stop_early_keep_nobody_waiting():
    def work(comm):
        number = 0
        for batch in enumerate_labelings(FCC, 10, 12, comm=comm, batch_size=100):
            number += len(batch)
            if comm.rank == 1:
                break
        return comm.allgather(number)

    numbers = run_ranks(3, work)
    assert numbers[0] == numbers[1] == numbers[2]
    assert 0 < numbers[0][1] <= 100 < numbers[0][0]
