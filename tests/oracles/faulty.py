"""A calculator that goes wrong in the way it is told, for chosen formulas."""

import ctypes
import errno
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import CalculationFailed, CalculatorSetupError
from ase.calculators.emt import EMT


def _raise_it(error):
    raise error


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


def _terminate():
    """What a queue does to all processes of a job, the programs of the calculator included."""
    child = subprocess.Popen(["sleep", "1000"])
    for pid in (child.pid, os.getpid()):
        os.kill(pid, signal.SIGTERM)
    if child.wait():
        raise RuntimeError("the program did not end well")


def _fill_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def _miss_program():
    subprocess.run(["no_such_program"], check=True)


def _fail_in_shell(command):
    def fail():
        try:
            subprocess.run(["sh", "-c", command], check=True)
        except subprocess.CalledProcessError as error:
            raise CalculationFailed("the program failed") from error

    return fail


def _report(code):
    def fail():
        raise CalculationFailed(f"vasp in /tmp returned an error: {code:d} stderr")

    return fail


def _miss_output():
    Path("pw.out").read_text()


def _print_much():
    line = b"\x1b[31mstep\x1b[0m \xff\x00 \xe2\x80\xae" + b"x" * 1000 + b"\n"
    for _ in range(200):
        os.write(1, line * 1000)
    print("licence expired")  # noqa: T201
    raise RuntimeError("see above")


def _leave_files():
    Path("OUTCAR").write_text("one line of many\n" * 2_000_000)
    Path("WAVECAR").write_bytes(b"\0" * 30_000_000)
    Path("small.txt").write_text("small")
    raise RuntimeError("too many bands")


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
    "terminate": _terminate,
    "disk full": _fill_disk,
    "no program": _miss_program,
    "exit 127": _fail_in_shell("exit 127"),
    "exit 2": _fail_in_shell("exit 2"),
    "killed program": _fail_in_shell("kill -TERM $$"),
    "reports 127": _report(127),
    "reports 139": _report(139),
    "no output": _miss_output,
    "set up": lambda: _raise_it(CalculatorSetupError("set VASP_PP_PATH")),
    "import": lambda: importlib.import_module("no_such_module_at_all"),
    "memory": lambda: _raise_it(MemoryError()),
    "prints": _print_much,
    "files": _leave_files,
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
        elif fault == "huge":
            self.results["energy"] = -1e9
        elif fault == "absurd forces":
            self.results["forces"] = np.full((len(self.atoms), 3), 1e4)
        elif fault == "wrong shape":
            self.results["forces"] = self.results["forces"][:-1]
        elif fault == "text":
            self.results["energy"] = "-3.5"
        elif fault == "push":
            self.results["forces"] = self.results["forces"] + [[1.0, 0, 0], [-1.0, 0, 0]]
        elif fault:
            ACTIONS[fault]()


def factory(faults):
    return Faulty(faults)


def broken_factory():
    raise OSError("licence server does not answer")


def crashing_factory():
    _crash()
