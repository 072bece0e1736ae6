"""A calculator that goes wrong in the way it is told, for chosen formulas."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.emt import EMT


def _hang():
    time.sleep(1000)


def _crash():
    ctypes.string_at(0)


def _print():
    print('{"energy": 0.0}')  # noqa: T201 - looks like a reply on purpose
    sys.stdout.flush()
    os.write(1, b"printed from C\n")
    subprocess.run(["echo", "printed by a child"], check=True)


def _read():
    sys.stdin.read()


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _raise():
    raise RuntimeError("SCF did not\nconverge")


def _raise_unpicklable():
    class Unpicklable(Exception):  # noqa: N818
        def __reduce__(self):
            raise TypeError("no pickle")

    raise Unpicklable("carried by a strange class")


def _close_everything():
    os.closerange(3, 100)
    time.sleep(1000)


def _spawn_and_hang():
    child = subprocess.Popen(["sleep", "1000"])
    Path(os.environ["CHILD_PID_FILE"]).write_text(str(child.pid))
    time.sleep(1000)


def _meet():
    """Come back when two calculators have come here."""
    place = Path(os.environ["MEETING_PLACE"])
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < 2:
        time.sleep(0.01)


ACTIONS = {
    "raise": _raise,
    "unpicklable": _raise_unpicklable,
    "hang": _hang,
    "crash": _crash,
    "kill": _kill,
    "print": _print,
    "exit": lambda: os._exit(3),
    "sys.exit": lambda: sys.exit("giving up"),
    "read": _read,
    "close": _close_everything,
    "spawn": _spawn_and_hang,
    "meet": _meet,
}


class Faulty(EMT):
    def __init__(self, faults):
        super().__init__()
        self.faults = faults

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        fault = self.faults.get(self.atoms.get_chemical_formula())
        if fault == "nan":
            self.results["energy"] = np.nan
        elif fault == "nan forces":
            self.results["forces"] = self.results["forces"] * np.nan
        elif fault == "absurd":
            self.results["energy"] = 1e9
        elif fault == "text":
            self.results["energy"] = "low"
        elif fault == "push":
            self.results["forces"] = self.results["forces"] + [[1.0, 0, 0], [-1.0, 0, 0]]
        elif fault:
            ACTIONS[fault]()


def factory(faults):
    return Faulty(faults)


def broken_factory():
    raise OSError("licence server does not answer")
