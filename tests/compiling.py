"""Compiled code for several workers at once: what one has compiled, the others only read.

Numba keeps compiled kernels on disk, but two processes that need the same one at the same moment
both compile it, and all workers of a test run need much the same kernels in its first minutes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numba.core.types import Type
    from numba.core.typing import Signature

_held: set[Path] = set()
"""Locks of this process: a kernel that calls itself must not wait for itself."""


def take_turns() -> None:
    """Let no two processes compile the same function at the same time, from now on."""
    compile_now = Dispatcher.compile

    def compile_in_turn(self: Dispatcher, sig: Signature | tuple[Type, ...]) -> object:
        # Numba looks into its disk cache inside: who waited finds the work done. Its own lock has
        # to come first, or two threads of a process could each hold what the other waits for.
        with global_compiler_lock, _turn(self.py_func):
            return compile_now(self, sig)

    Dispatcher.compile = compile_in_turn


@contextlib.contextmanager
def _turn(function: object) -> Iterator[None]:
    """Hold the lock of a function; functions of one name share it, which only costs time."""
    name = f"{function.__module__}.{function.__qualname__}".encode()
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or tempfile.gettempdir())
    path = folder / f"{zlib.crc32(name):08x}.lock"
    if path in _held:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing the file lets go
        _held.add(path)
        try:
            yield
        finally:
            _held.remove(path)
