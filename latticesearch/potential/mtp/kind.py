"""The kind of potential ``"mtp"``: how it is made from parameters and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError
from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.files import parse_mtp, read_mtp
from latticesearch.potential.registry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latticesearch.lattice import ParentLattice
    from latticesearch.potential.mtp.model import MtpPotential

LEVEL, CUTOFF = 8, 5.0
"""Defaults: the smallest level with products of three moments, which order and disorder need, and
Å up to which metals have two to four shells."""

MIN_DIST_SHARE = 0.9
"""Default min_dist as a share of the shortest distance of the parent lattice."""

SAME_LENGTH = 1e-9
"""Å; a file writes its lengths with 17 digits."""

PARAMETERS = ("level", "cutoff", "min_dist", "radial_size", "file")


def make(parent: ParentLattice, parameters: Mapping[str, Any], seed: int = 0) -> MtpPotential:
    """Return the potential before the first fit: that of a file, or the start of a training.

    Parameters
    ----------
    parent
        The lattice, whose nearest neighbours the cutoff has to reach.
    parameters
        ``level``, ``cutoff`` and ``min_dist`` (Å), ``radial_size`` as in `MtpBasis`; ``file``, the
        path of a ``.mtp`` file to start from.
    seed
        Of the random start.

    Raises
    ------
    InputError
        A parameter that there is not or cannot be, or a file of another form.
    """
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise InputError(
            f"potential.{unknown[0]}: a moment tensor potential has {', '.join(PARAMETERS)}"
        )
    basis = basis_of(parent, parameters)
    file = parameters.get("file")
    fresh = basis.potential(seed=seed)
    return fresh if file is None else _given(Path(file), basis, fresh)


def basis_of(parent: ParentLattice, parameters: Mapping[str, Any]) -> MtpBasis:
    """Return the basis that `parameters` describe, for the species of `parent`.

    Raises
    ------
    InputError
        The cutoff does not reach the nearest neighbours, or as `MtpBasis`.
    """
    shortest = nearest_distance(parent)
    given = {name: value for name, value in parameters.items() if value is not None}
    cutoff = float(given.get("cutoff", CUTOFF))
    if cutoff <= shortest:
        raise InputError(
            f"potential.cutoff = {cutoff} Å does not reach the nearest neighbours of the parent "
            f"lattice at {shortest:.3f} Å; choose 1.5 to 2.5 times that distance"
        )
    min_dist = float(given.get("min_dist", MIN_DIST_SHARE * shortest))
    sizes = {"radial_size": int(given["radial_size"])} if "radial_size" in given else {}
    level = int(given.get("level", LEVEL))
    return MtpBasis(level, parent.species, cutoff, min_dist=min_dist, **sizes)


def _given(file: Path, basis: MtpBasis, fresh: MtpPotential) -> MtpPotential:
    """Return the potential of a file, which must have the form of a fresh one."""
    read = read_mtp(file, basis.species)
    for name in ("radial_coeffs", "moment_coeffs"):
        there, wanted = getattr(read, name).shape, getattr(fresh, name).shape
        if there != wanted:
            raise InputError(
                f"potential.file {file}: its {name} have the shape {there}, "
                f"level {basis.level} with these species needs {wanted}; change potential.level "
                "or radial_size, or leave the file out"
            )
    for name, there, wanted in (
        ("cutoff", read.max_dist, basis.cutoff),
        ("min_dist", read.min_dist, basis.min_dist),
    ):
        if abs(there - wanted) > SAME_LENGTH:
            raise InputError(
                f"potential.file {file} has {name} {there} Å, the campaign "
                f"{wanted} Å; set potential.{name} = {there}"
            )
    return read


def _parse(text: str, parent: ParentLattice) -> MtpPotential:
    """Read the text of a potential whose types are the species of `parent`, in their order."""
    return parse_mtp(text, parent.species)


KIND = Kind("mtp", "mtp", make, _parse)
