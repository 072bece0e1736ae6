"""Several ranks in one process: threads that meet at barriers, with the package's own interface."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import HANG


class FakeComm:
    def __init__(self, rank, size, shared):
        self.rank, self.size, self._shared = rank, size, shared

    def barrier(self):
        self._shared["barrier"].wait(timeout=HANG)

    def allgather(self, value):
        self._shared["values"][self.rank] = pickle.dumps(value)
        self.barrier()
        result = [pickle.loads(v) for v in self._shared["values"]]  # noqa: S301
        self.barrier()
        return result

    def bcast(self, value, root=0):
        return self.allgather(value)[root]

    @contextlib.contextmanager
    def shared_counter(self):
        if self.rank == 0:
            self._shared["counter"] = itertools.count()
        self.barrier()
        counter = self._shared["counter"]
        self.barrier()
        yield counter.__next__

    def serve(self):
        pass

    def abort(self, code):
        raise SystemExit(code)


def run_ranks(size, function):
    """Call ``function(comm)`` on `size` ranks; return the results in rank order."""
    shared = {"barrier": threading.Barrier(size), "values": [None] * size}
    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(function, FakeComm(r, size, shared)) for r in range(size)]
        return [f.result() for f in futures]
