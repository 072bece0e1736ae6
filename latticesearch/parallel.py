"""The only import of mpi4py, and the few collective helpers everything else is built on.

Every function that can use several ranks takes a ``comm`` argument with the methods of
`Communicator`. `SerialComm` is the default everywhere, so serial runs follow the same code path.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import platform
import sys
import time
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from mpi4py import MPI

log = logging.getLogger(__name__)

T = TypeVar("T")

WAIT_INTERVAL = 0.005
"""Seconds a waiting rank sleeps between two looks; MPI itself would burn the core meanwhile."""

SHARE_OF_REST = 0.5
"""Part of an even share of what is left that a rank takes at a time: it asks rarely at first, and
takes single pieces at the end, where others would wait for it."""

_LAUNCHER_VARIABLES = ("PMI_RANK", "PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID")
_SCRUBBED_PREFIXES = ("PMI", "MPI", "OMPI", "HYDRA", "HYDI", "MPICH", "PMIX", "PRTE", "GPAW_MPI")


THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Who sets one of these has decided how many threads linear algebra takes."""

OF_RANKS = "LATTICESEARCH_THREADS_OF_RANKS"
"""Names of those of them that the command line has set for itself, for one thread per rank."""


def threads_are_set(environment: Mapping[str, str]) -> bool:
    """Return whether the user, and not the command line, has said how many threads to use."""
    ours = environment.get(OF_RANKS, "").split(",")
    return any(name in environment and name not in ours for name in THREAD_VARIABLES)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let linear algebra take one thread inside a block, or a function that this decorates.

    Matrices here are small: threads gain nothing, and on a machine that is busy they wait for each
    other. A fit of level 16 to 600 energies took 52 CPU s then instead of 2.5.
    """
    if any(name in os.environ for name in THREAD_VARIABLES):
        yield
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)  # to look for the libraries takes longer than a small solve
def _libraries() -> Any:
    """Return what sets the threads of the libraries of linear algebra: numpy's and scipy's."""
    import scipy.linalg  # noqa: F401 - brings a library of its own, which is to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class worked_out_once(Generic[T]):  # noqa: N801 - it is used as `functools.cached_property` is
    """A property worked out when first asked for, which ranks may work out together.

    `functools.cached_property` holds a lock for all instances until Python 3.11: ranks that are
    threads of one process would wait for each other. The instance needs a ``__dict__``.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> worked_out_once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> worked_out_once[T] | T:
        if instance is None:
            return self
        value = self._function(instance)
        instance.__dict__[self._name] = value
        return value


class Communicator(Protocol):
    """What the package needs of an MPI communicator; objects travel as pickles."""

    @property
    def rank(self) -> int:
        """Index of this process, 0 to ``size - 1``."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def barrier(self) -> None:
        """Wait, without burning the core, until all ranks are here."""

    def bcast(self, value: T, root: int = 0) -> T:
        """Return the value of rank `root` on all ranks."""

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks, in rank order, on all ranks."""

    def meet(self, timeout: float) -> bool:
        """Return whether all ranks call this within `timeout` seconds."""

    def shared_counter(self) -> AbstractContextManager[Callable[[], int]]:
        """Give, on all ranks together, a function that gives 0, 1, 2, ... each to one caller."""

    def serve(self) -> None:
        """Let through what other ranks ask of this one; costs next to nothing."""

    def abort(self, code: int) -> None:
        """End all ranks at once with the exit code `code`."""


class SerialComm:
    """The communicator of one process."""

    rank = 0
    size = 1

    def barrier(self) -> None:
        """Return at once."""

    def bcast(self, value: T, root: int = 0) -> T:  # noqa: ARG002
        """Return `value`."""
        return value

    def allgather(self, value: T) -> list[T]:
        """Return ``[value]``."""
        return [value]

    def meet(self, timeout: float) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    @contextlib.contextmanager
    def shared_counter(self) -> Iterator[Callable[[], int]]:
        """Give a function that gives 0, 1, 2, ..."""
        yield itertools.count().__next__

    def serve(self) -> None:
        """Do nothing: nobody asks."""

    def abort(self, code: int) -> None:
        """Leave the process."""
        raise SystemExit(code)


class MpiComm:
    """An mpi4py communicator whose waiting ranks sleep.

    MPI libraries wait by polling at full speed. While root drives oracle processes the other
    ranks have nothing to do, and on a laptop those processes need their cores; so all
    collectives here are the non-blocking ones with a sleep between two tests.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        # A barrier of its own: ranks that meet here may have left others behind in a collective.
        self._meeting = comm.Dup()
        self.rank = int(comm.Get_rank())
        self.size = int(comm.Get_size())

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        _wait(self._comm.Ibarrier())

    def bcast(self, value: T, root: int = 0) -> T:
        """Return the value of rank `root` on all ranks."""
        self.barrier()
        result: T = self._comm.bcast(value, root=root)
        return result

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks, in rank order, on all ranks."""
        self.barrier()
        result: list[T] = self._comm.allgather(value)
        return result

    def meet(self, timeout: float) -> bool:
        """Return whether all ranks call this within `timeout` seconds."""
        return _wait(self._meeting.Ibarrier(), timeout)

    @contextlib.contextmanager
    def shared_counter(self) -> Iterator[Callable[[], int]]:
        """Give a function that gives 0, 1, 2, ... each to one caller on any rank.

        A number in the memory of rank 0 that all ranks read and raise in one step. MPI need not
        do that while rank 0 computes, so rank 0 should `serve` now and then.
        """
        from mpi4py import MPI

        window = MPI.Win.Allocate(8 if self.rank == 0 else 0, 8, comm=self._comm)
        if self.rank == 0:
            window.tomemory()[:] = bytes(8)
        self.barrier()

        def following() -> int:
            one, found = array("q", [1]), array("q", [0])
            window.Lock(0)
            window.Fetch_and_op([one, MPI.INT64_T], [found, MPI.INT64_T], 0, 0, MPI.SUM)
            window.Unlock(0)
            return int(found[0])

        yield following
        window.Free()

    def serve(self) -> None:
        """Give MPI a moment, for it works only when it is called."""
        self._comm.Iprobe()

    def abort(self, code: int) -> None:
        """End all ranks at once."""
        self._comm.Abort(code)


def _wait(request: MPI.Request, timeout: float = float("inf")) -> bool:
    """Return True when `request` is complete; quick waits do not sleep at all."""
    began = time.monotonic()
    while not request.Test():
        waited = time.monotonic() - began
        if waited > timeout:
            return False
        if waited > WAIT_INTERVAL:
            time.sleep(WAIT_INTERVAL)
    return True


_WORLD: list[Communicator] = []


def world() -> Communicator:
    """Return the communicator of all ranks of this run.

    Started without an MPI launcher, or without an MPI library, the run is serial. A launcher
    with no usable library would give N copies of the same campaign, so that is an error.

    Raises
    ------
    RuntimeError
        The process was started by mpirun or srun with several ranks, but MPI cannot be loaded.
    """
    if not _WORLD:
        _WORLD.append(_load_world())
    return _WORLD[0]


def _load_world() -> Communicator:
    if not any(name in os.environ for name in _LAUNCHER_VARIABLES):
        return SerialComm()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        # ASE uses mpi4py once it finds the package loaded, and half of it is loaded now.
        for name in [n for n in sys.modules if n.partition(".")[0] == "mpi4py"]:
            del sys.modules[name]
        if _launched_size() > 1:
            message = (
                "started with several ranks, but no MPI library can be loaded "
                f"({str(error).splitlines()[0]}); install one: pip install 'latticesearch[mpich]'"
            )
            raise RuntimeError(message) from error
        return SerialComm()
    if MPI.COMM_WORLD.Get_size() == 1:
        if _launched_size() > 1:
            message = (
                f"the launcher started {_launched_size()} ranks, but each sees only itself: "
                "mpirun and the MPI library that mpi4py loads do not belong together"
            )
            raise RuntimeError(message)
        return SerialComm()
    return MpiComm(MPI.COMM_WORLD)


def _launched_size() -> int:
    """Return the number of ranks that the launcher announces, 1 where it says nothing."""
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 1


def scrubbed_environment() -> dict[str, str]:
    """Return the environment without what an MPI launcher put there.

    Calculators run as separate processes; with the launcher's variables they would believe
    they are ranks of this run.
    """
    return {
        name: value for name, value in os.environ.items() if not name.startswith(_SCRUBBED_PREFIXES)
    }


def cpus_of_all(comm: Communicator) -> frozenset[int]:
    """Return the processors, by number, that ranks on the machine of rank 0 may use together.

    A launcher may have bound each rank to one of them.
    """
    found = comm.allgather((platform.node(), _own_cpus()))
    return frozenset(cpu for host, cpus in found if host == found[0][0] for cpu in cpus)


def _own_cpus() -> list[int]:
    """Return the processors that this process may use; not all systems bind processes."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def block_range(n: int, comm: Communicator) -> range:
    """Return the block of ``range(n)`` that belongs to this rank.

    The blocks are contiguous, in rank order, and their sizes differ by one at most.
    """
    share, rest = divmod(n, comm.size)
    start = comm.rank * share + min(comm.rank, rest)
    return range(start, start + share + (comm.rank < rest))


def gather_blocks(parts: Sequence[T], comm: Communicator) -> list[T]:
    """Concatenate the lists of all ranks in rank order, on all ranks."""
    return [item for block in comm.allgather(list(parts)) for item in block]


def split(n: int, function: Callable[[int], T], comm: Communicator) -> list[T]:
    """Return ``function(i)`` for i from 0 to n - 1, on all ranks, which take turns."""
    mine: list[tuple[int, T]] = []
    with collective_errors(comm):
        mine += [(i, function(i)) for i in range(comm.rank, n, comm.size)]
    found = dict(gather_blocks(mine, comm))
    return [found[i] for i in range(n)]


@contextlib.contextmanager
def collective_errors(comm: Communicator) -> Iterator[None]:
    """Raise on all ranks what any rank raises in the body.

    The exception of the lowest failing rank wins, so all ranks end with the same message.
    The body must not contain a collective call that a failing rank would miss.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:  # noqa: BLE001 - handed to all ranks below
        error = caught
    first = next((e for e in comm.allgather(error) if e is not None), None)
    if first is not None:
        raise first from (error if error is not first else None)


def on_root(comm: Communicator, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call `function` on rank 0 only; return its result, or raise its exception, on all ranks."""
    outcome: tuple[T | None, Exception | None] = (None, None)
    if comm.rank == 0:
        try:
            outcome = (function(*args, **kwargs), None)
        except Exception as caught:  # noqa: BLE001 - handed to all ranks below
            outcome = (None, caught)
    result, error = comm.bcast(outcome)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def kept_on_root(
    comm: Communicator, function: Callable[..., T], *args: Any, **kwargs: Any
) -> T | None:
    """Call `function` on rank 0 only and keep its result there; raise its exception everywhere.

    For what cannot travel: open files, databases, processes. Other ranks get None.
    """
    result: T | None = None
    with collective_errors(comm):
        if comm.rank == 0:
            result = function(*args, **kwargs)
    return result


def first_on_root(comm: Communicator, function: Callable[[], T]) -> T:
    """Call `function` on rank 0, then on all others: a disk cache is filled by one process."""
    with collective_errors(comm):
        if comm.rank == 0:
            result = function()
    with collective_errors(comm):
        if comm.rank != 0:
            result = function()
    return result


def deal_out(n: int, function: Callable[[int], T], comm: Communicator) -> list[T]:
    """Return ``[function(0), ..., function(n - 1)]`` on all ranks; whoever is free takes the next.

    Parameters
    ----------
    n
        Number of pieces of work.
    function
        Its result must not depend on the rank that calls it.
    comm
        The ranks.
    """
    mine: list[tuple[int, T]] = []
    starts = _block_starts(n, comm.size)
    # An error is raised on all ranks, so all of them leave the counter together.
    error: Exception | None = None
    with comm.shared_counter() as following:
        try:
            while (block := following()) < len(starts) - 1:
                for i in range(starts[block], starts[block + 1]):
                    mine.append((i, function(i)))
                    comm.serve()
        except Exception as caught:  # noqa: BLE001 - raised on all ranks below
            error = caught
    with collective_errors(comm):
        if error is not None:
            raise error
    return [result for _, result in sorted(gather_blocks(mine, comm), key=lambda part: part[0])]


def _block_starts(n: int, n_ranks: int) -> list[int]:
    """Return where the blocks begin in which `n` pieces are dealt out, and `n` at the end."""
    starts = [0]
    while starts[-1] < n:
        rest = n - starts[-1]
        starts.append(starts[-1] + max(1, int(SHARE_OF_REST * rest / n_ranks)))
    return starts
