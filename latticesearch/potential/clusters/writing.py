"""Write cluster expansions as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latticesearch.potential.clusters.coefficients import ClusterCoefficients

FORMAT = "latticesearch cluster expansion"
VERSION = 1


def format_clusters(model: ClusterCoefficients) -> str:
    """Return the text, JSON, of a cluster expansion.

    The basis is given by the parent lattice and the cutoffs, and the order of the coefficients
    follows from them. Doubles are written with as many digits as give back the same ones.
    """
    basis, parent = model.basis, model.basis.parent
    content = {
        "format": FORMAT,
        "version": VERSION,
        "species": list(parent.species),
        "cell": parent.cell.tolist(),
        "basis": parent.basis.tolist(),
        "allowed": parent.allowed.astype(int).tolist(),
        "pair_cutoff": basis.pair_cutoff,
        "triplet_cutoff": basis.triplet_cutoff,
        "coefficients": model.coefficients.tolist(),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
