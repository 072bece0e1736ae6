"""One calculation before a campaign: whether the calculator starts, and gives what is needed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from latticesearch.errors import OracleUnavailable
from latticesearch.oracles.ase_process import AseOracle
from latticesearch.oracles.printed import last_lines
from latticesearch.oracles.protocol import OracleJob
from latticesearch.oracles.scratch import LOG

if TYPE_CHECKING:
    from ase import Atoms

    from latticesearch.oracles.protocol import Oracle, OracleResult


@dataclass(frozen=True)
class Trial:
    """How one calculation went.

    Parameters
    ----------
    starts
        The calculator could be made and has begun to compute.
    converged
        It ended with usable numbers.
    has_forces, has_stress
        It gave forces and stress.
    energy
        eV per cell; None where it failed.
    seconds
        Wall time, s.
    printed
        The last lines that it printed, with ``|`` between them.
    error
        One line that says what went wrong; None where nothing did.
    """

    starts: bool
    converged: bool = False
    has_forces: bool = False
    has_stress: bool = False
    energy: float | None = None
    seconds: float = 0.0
    printed: str = ""
    error: str | None = None


def try_out(oracle: Oracle, atoms: Atoms, key: str = "trial") -> Trial:
    """Compute one structure for real, once.

    Parameters
    ----------
    oracle
        What computes it. Its files stay in its scratch folder only if it fails.
    atoms
        A structure, such as an end member of the campaign.
    key
        Its canonical key, for oracles that look it up.

    Returns
    -------
    Trial
        How it went; no failure raises.
    """
    if not isinstance(oracle, AseOracle):
        return _judged(next(iter(oracle.run([OracleJob(key, atoms)])), None))
    # A name of its own: no result of the campaign, and none of an earlier trial, may answer.
    job = OracleJob("trial", atoms)
    folder = oracle.folder(job)
    shutil.rmtree(folder, ignore_errors=True)
    trial = Trial(starts=False, error="interrupted")
    try:
        for result in oracle.run([job], patience=1):
            trial = replace(_judged(result), printed=last_lines(folder / LOG))
    except OracleUnavailable as error:
        return Trial(starts=False, printed=last_lines(folder / LOG), error=str(error))
    return trial


def _judged(result: OracleResult | None) -> Trial:
    if result is None:
        return Trial(starts=False, error="interrupted")
    return Trial(
        starts=True,
        converged=result.status == "done",
        has_forces=result.forces is not None,
        has_stress=result.stress is not None,
        energy=result.energy,
        seconds=result.seconds,
        error=result.error,
    )
