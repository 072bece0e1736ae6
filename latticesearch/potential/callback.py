"""The Python side of a compiled walk whose model is a Python function of labelings."""

from __future__ import annotations

import ctypes
import itertools
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from latticesearch.potential._callback_kernels import NOBODY, CallbackState, CallbackTables

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.int8]

_HANDLES = itertools.count()

# Kernels know a number only. One that outlives its callback finds nothing, instead of freed memory.
_CALLBACKS: WeakValueDictionary[int, Callback] = WeakValueDictionary()


class Callback:
    """What compiled walks need to ask a Python function, and the exceptions it raised there.

    Parameters
    ----------
    energies
        Takes labelings, (n, n_sites), and returns energies of the cell, (n,), eV.
    n_sites
        Of the supercell.
    """

    def __init__(self, energies: Callable[[Labels], Floats], n_sites: int) -> None:
        self._energies = energies
        self._pending: BaseException | None = None
        handle = next(_HANDLES)
        _CALLBACKS[handle] = self
        self.tables = CallbackTables(
            address=ctypes.cast(_ADDRESS, ctypes.c_void_p).value or 0,
            handle=handle,
            trials=np.zeros((n_sites, n_sites), dtype=np.int8),
            answers=np.zeros(n_sites),
        )

    def state(self, labels: Labels) -> CallbackState:
        """Return a state of `labels`, (n_sites,), worked out."""
        self.raise_pending()
        energy = np.array(self._energies(labels[None]), dtype=np.float64)
        return CallbackState(labels.copy(), energy, np.full(4, NOBODY, dtype=np.int64), np.zeros(1))

    def answer(self, n: int) -> None:
        """Work out the first n rows of the trials; keep the first exception.

        No exception can pass through a compiled kernel. After one, all answers are infinite, so
        that the kernel ends by itself and soon.
        """
        if self._pending is not None:
            return
        try:
            self.tables.answers[:n] = self._energies(self.tables.trials[:n])
        except BaseException as error:  # noqa: BLE001 - an interrupt, too, is raised again later
            self._pending = error

    def raise_pending(self) -> None:
        """Raise, once, what the function raised inside a kernel."""
        if self._pending is not None:
            error, self._pending = self._pending, None
            raise error


@ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)
def _ADDRESS(handle: int, n: int) -> None:  # noqa: N802 - a constant: the one C function of all
    """Pass a question of a kernel on to the callback it means."""
    callback = _CALLBACKS.get(handle)
    if callback is not None:
        callback.answer(n)
