"""The only conversions between energies per cell, per site and per atom, all in eV.

A search counts energies per site of the lattice, which makes cells with and without vacancies
("X": a site, but no atom) sums over the same things. Hulls, tables and people count them per
atom; oracles compute them per cell. A cell without atoms has no energy per atom: where one turns
up among others, it counts as if it had a single one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Configuration, Labelings

    Structures = Labelings | Configuration
    Energy = TypeVar("Energy", float, npt.NDArray[np.float64])


def site_to_atom(energy: Energy, structures: Structures) -> Energy:
    """Return energies in eV/atom.

    Parameters
    ----------
    energy
        eV per site: (n,) for a batch of n labelings, one number for one configuration.
    structures
        What the energies belong to.
    """
    result: Energy = energy * sites_per_atom(structures)
    return result


def counted_per_atom(
    energies: npt.NDArray[np.float64],
    n_sites: npt.NDArray[np.int64],
    n_atoms: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return energies in eV/atom, (n,), of energies in eV per site and the sizes of the cells.

    The same numbers as `site_to_atom` gives, for structures that need not be made for it.
    """
    result: npt.NDArray[np.float64] = energies * (n_sites / np.maximum(n_atoms, 1))
    return result


def atom_to_site(energy: Energy, structures: Structures) -> Energy:
    """Return energies in eV per site of energies in eV/atom; the inverse of `site_to_atom`."""
    result: Energy = energy / sites_per_atom(structures)
    return result


def sites_per_atom(structures: Structures) -> Any:
    """Return the sites per atom, (n,) for a batch, one number else: one without vacancies."""
    return structures.supercell.n_sites / np.maximum(structures.n_atoms, 1)


def cell_to_atom(energy: Energy, n_atoms: int) -> Energy:
    """Return energies in eV/atom of energies of a cell, eV, with `n_atoms` atoms."""
    return energy / max(n_atoms, 1)


def cell_to_site(energy: Energy, n_sites: int) -> Energy:
    """Return energies in eV per site of energies of a cell, eV, with `n_sites` lattice sites."""
    return energy / n_sites


def site_to_cell(energy: Energy, n_sites: int) -> Energy:
    """Return energies of a cell, eV, with `n_sites` sites, of energies in eV per site."""
    return energy * n_sites
