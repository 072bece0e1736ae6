"""Sources of true energies: ASE calculators in processes of their own, recorded tables."""

from __future__ import annotations

from latticesearch.oracles.ase_process import AseOracle
from latticesearch.oracles.protocol import Oracle, OracleJob, OracleResult

__all__ = [
    "AseOracle",
    "Oracle",
    "OracleJob",
    "OracleResult",
]
