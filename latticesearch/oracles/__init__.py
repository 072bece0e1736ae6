"""Sources of true energies: ASE calculators in processes of their own, recorded tables."""

from __future__ import annotations

from latticesearch.oracles.ase_process import AseOracle
from latticesearch.oracles.checks import still_on_lattice
from latticesearch.oracles.method import Method
from latticesearch.oracles.protocol import Oracle, OracleJob, OracleResult
from latticesearch.oracles.recorded import RecordedOracle
from latticesearch.oracles.trial import Trial, try_out

__all__ = [
    "AseOracle",
    "Method",
    "Oracle",
    "OracleJob",
    "OracleResult",
    "RecordedOracle",
    "Trial",
    "still_on_lattice",
    "try_out",
]
