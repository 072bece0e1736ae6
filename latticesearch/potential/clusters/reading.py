"""Read the text of cluster expansions."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.clusters.basis import ClusterBasis
from latticesearch.potential.clusters.model import ClusterModel
from latticesearch.potential.clusters.writing import FORMAT, VERSION

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice

SAME_LATTICE = 1e-6
"""Å, and fractions of the cell: what the text says of the lattice may differ by so much."""


def parse_clusters(text: str, parent: ParentLattice) -> ClusterModel:
    """Read a cluster expansion of `parent` as `format_clusters` wrote it.

    Raises
    ------
    InputError
        The text is no cluster expansion, or one of another parent lattice.
    """
    content = _content(text)
    species = content.get("species")
    if species != list(parent.species):
        raise InputError(
            f"the cluster expansion is one of the species {species}, the parent lattice has "
            f"{list(parent.species)}, in this order"
        )
    for name, there in (
        ("cell", parent.cell),
        ("basis", parent.basis),
        ("allowed", parent.allowed.astype(float)),
    ):
        given = _numbers(content, name)
        if given.shape != there.shape or np.abs(given - there).max() > SAME_LATTICE:
            raise InputError(
                f"the cluster expansion is one of another parent lattice: its {name} is "
                f"{given.tolist()}, here it is {there.tolist()}"
            )
    cutoffs = [_cutoff(content, name) for name in ("pair_cutoff", "triplet_cutoff")]
    basis = ClusterBasis.of(parent, *cutoffs)
    coefficients = _numbers(content, "coefficients")
    if coefficients.shape != (basis.n_parameters,):
        raise InputError(
            f"the cluster expansion has coefficients of the shape {coefficients.shape}, but pairs "
            f"up to {cutoffs[0]} Å and triplets up to {cutoffs[1]} Å have {basis.n_parameters}"
        )
    return ClusterModel(basis, coefficients)


def _content(text: str) -> dict[str, Any]:
    """Return the entries of the text; complain where it is none of ours."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"this is no cluster expansion: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'this is no cluster expansion: it does not say "format": "{FORMAT}"')
    if content.get("version") != VERSION:
        raise InputError(
            f"the cluster expansion has version {content.get('version')} of the format, this code "
            f"reads {VERSION}"
        )
    return content


def _numbers(content: dict[str, Any], name: str) -> npt.NDArray[np.float64]:
    """Return an entry as an array of finite numbers."""
    try:
        numbers = np.array(content.get(name), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the cluster expansion's {name} are no numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise InputError(f"the cluster expansion's {name} are missing or not all finite")
    return numbers


def _cutoff(content: dict[str, Any], name: str) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"the cluster expansion's {name} is {value!r}: a length in Å is needed")
    if not (math.isfinite(value) and value >= 0.0):
        raise InputError(f"the cluster expansion's {name} is {value}: it must be 0 Å or more")
    return float(value)
