"""Potentials and structures as files that MLIP and motep read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latticesearch.errors import InputError
from latticesearch.potential import format_cfg, format_mtp
from latticesearch.storage.atomic import write_text_atomic

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from ase import Atoms

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


def write_cfg(
    path: str | os.PathLike[str], structures: Iterable[Atoms], species: Sequence[str]
) -> None:
    """Write structures as an MLIP ``.cfg`` file that is complete or not there.

    Parameters
    ----------
    path
        Where to.
    structures
        What; energies, forces and stresses are taken from attached calculators.
    species
        Symbols in the order of the file's types.

    Raises
    ------
    InputError
        The file cannot be written, a structure has a species that is not in `species`, or a number
        is not finite.
    """
    text = format_cfg(structures, species)
    try:
        write_text_atomic(Path(path), text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
