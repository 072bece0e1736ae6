"""One thread per rank."""

from __future__ import annotations

import os

from latticesearch.parallel import OF_RANKS

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def one_per_rank() -> None:
    """Ask all libraries for one thread, unless the user asked for something else.

    Call it before numpy is imported. Threads of several ranks would fight for the cores, and
    the matrices here are too small to gain from them. Calculations may have more, so what was set
    here is remembered.
    """
    ours = [variable for variable in VARIABLES if variable not in os.environ]
    os.environ.update(dict.fromkeys(ours, "1"))
    if ours:
        os.environ[OF_RANKS] = ",".join(ours)
