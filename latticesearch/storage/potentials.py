"""Potentials as files that MLIP and motep read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latticesearch.potential import format_mtp
from latticesearch.storage.atomic import write_text_atomic

if TYPE_CHECKING:
    import os

    from latticesearch.potential import MtpPotential


def write_mtp(path: str | os.PathLike[str], potential: MtpPotential) -> None:
    """Write a potential as an MLIP ``.mtp`` file, which is either complete or not there.

    Parameters
    ----------
    path
        The file; an old one is replaced.
    potential
        The potential; all numbers are written to the last digit.
    """
    write_text_atomic(Path(path), format_mtp(potential))
