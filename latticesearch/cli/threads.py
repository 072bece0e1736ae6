"""One thread per rank."""

from __future__ import annotations

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def one_per_rank() -> None:
    """Ask all libraries for one thread, unless the user asked for something else.

    Call it before numpy is imported. Threads of several ranks would fight for the cores, and
    the matrices here are too small to gain from them.
    """
    for variable in VARIABLES:
        os.environ.setdefault(variable, "1")
