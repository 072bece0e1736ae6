"""What a calculation takes of a cluster, and how many of them are handed to its queue."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MARGIN = 30.0
"""Seconds that a calculation ends before its job does, so that a reply can still be written."""
_LARGEST_MARGIN = 0.1
"""The same as a part of a short time."""


@dataclass(frozen=True)
class Resources:
    """What one job asks for.

    Parameters
    ----------
    time
        Its longest time, s.
    cores
        Cores, one task of the queue each.
    memory
        Of a node, MB; None: what the cluster gives.
    partition, account
        Where it runs, who pays; None: what the cluster takes.
    prologue
        Lines of the shell before the calculation, such as ``module load``.
    options
        More options of the queue, such as ``--qos=long``; they win over the others.
    """

    time: float
    cores: int = 1
    memory: int | None = None
    partition: str | None = None
    account: str | None = None
    prologue: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def usable_time(self) -> float:
        """Seconds after which the job itself ends its calculation, before the queue would."""
        return self.time - min(_MARGIN, _LARGEST_MARGIN * self.time)


@dataclass(frozen=True)
class ElementResources:
    """What jobs with an element ask for beyond the others; see `Resources`."""

    time: float | None = None
    cores: int | None = None
    memory: int | None = None
    partition: str | None = None


@dataclass(frozen=True)
class Queue:
    """How a campaign uses the queue of a cluster.

    Parameters
    ----------
    resources
        What a job asks for.
    elements
        What jobs of structures with an element ask for: of time, cores and memory the most that
        one of them needs, the partition of the first one here that names one.
    jobs
        Calculations in the queue at most, waiting ones included; None: all that are wanted.
    array
        Calculations in one array job at most.
    interval
        Seconds between two looks at the queue.
    wait
        Whether to stay until the calculations are done.
    """

    resources: Resources
    elements: Mapping[str, ElementResources] = field(default_factory=dict)
    jobs: int | None = None
    array: int = 100
    interval: float = 30.0
    wait: bool = True

    def resources_for(self, symbols: Iterable[str]) -> Resources:
        """Return what the job of a structure with these elements asks for."""
        here, base = set(symbols), self.resources
        special = [one for symbol, one in self.elements.items() if symbol in here]
        memories = [base.memory, *(one.memory for one in special)]
        partitions = [one.partition for one in special if one.partition is not None]
        return replace(
            base,
            time=max([base.time, *(one.time for one in special if one.time is not None)]),
            cores=max([base.cores, *(one.cores for one in special if one.cores is not None)]),
            memory=max((size for size in memories if size is not None), default=None),
            partition=next(iter(partitions), base.partition),
        )
