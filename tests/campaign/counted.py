"""EMT that writes down each calculation it does, so that tests can count what was paid for.

The environment variable COUNTED names the file; a line per calculation begun (+) and done (-), with
a fingerprint of the structure. BROKEN makes it fail: "start" before it can be made, "fail" at every
structure. PAUSE is how many seconds a calculation takes beside its own.
"""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np
from ase.calculators.emt import EMT


def factory():
    if os.environ.get("BROKEN") == "start":
        raise ImportError("no licence: the server does not answer")
    return Counted()


class Counted(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        write("+", atoms)
        time.sleep(float(os.environ.get("PAUSE", "0")))
        if os.environ.get("BROKEN") == "fail":
            raise RuntimeError("the structure cannot be computed")
        super().calculate(atoms, properties, system_changes)
        write("-", atoms)


def write(sign, atoms):
    content = np.round(atoms.positions, 4).tobytes() + atoms.numbers.tobytes()
    line = f"{sign} {hashlib.sha256(content).hexdigest()[:16]} {atoms.symbols}\n"
    descriptor = os.open(os.environ["COUNTED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def counts(path):
    """Return how often each structure was begun, and how often it was computed to its end."""
    begun, done = {}, {}
    for line in path.read_text().splitlines() if path.exists() else []:
        sign, digest, *_ = line.split()
        into = begun if sign == "+" else done
        into[digest] = into.get(digest, 0) + 1
    return begun, done
