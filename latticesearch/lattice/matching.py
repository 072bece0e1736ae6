"""Find the labeling of a relaxed, strained, rotated or re-described structure.

A structure belongs to a parent lattice if an integer matrix and a small deformation take the
parent's lattice vectors to those of the structure, and each atom then sits closest to a site of
its own that allows it. The matrices come from `orientations`, least possible misfit first; the
atoms are put on the sites of each (`placement`) until no other matrix can fit about as well as the
best. Whatever is not mapped has a reason in one line.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.cell_numbers import VACANCY_SCALE, cell_numbers, sublattice_shortage
from latticesearch.lattice.extra_periods import coarser_parents, repeated
from latticesearch.lattice.labelings import Configuration
from latticesearch.lattice.orientations import (
    Limits,
    Orientations,
    Structure,
    orientations,
    shape_strain,
    spacing,
)
from latticesearch.lattice.parent import VACANCY, ParentLattice
from latticesearch.lattice.placement import Placement, placements

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice.supercell import Supercell

log = logging.getLogger(__name__)

MAX_STRAIN = 0.09
"""Shape strain beyond which a cell is another lattice: half of bcc to fcc (Bain), 0.18."""

MAX_SCORE = 0.15
"""Score beyond which a structure is another lattice; bcc to hcp (Burgers) is 0.24."""

ALIKE = 1.25
"""Two decorations fit about equally well if their scores differ by less than a quarter ..."""

RESOLUTION = 0.005
"""... and this: 0.01 Å for metals, where coordinates and lattice constants of files end."""

CERTAIN = 0.001
"""Score in the parent's own orientation that leaves no doubt: an ideal structure, rounded."""

FIRST_LOOK = 0.5
"""Part of the limits that is searched first: most structures are found there, in less time."""

MAX_TRIED = 500
"""Matrices whose sites are tried. Only cells nearly empty of atoms have more within the limits."""

WIDER_STRAIN = 2.2
"""Factor on the limit of the strain within which a refused structure is looked for, to say how far
it is off: all of the way from fcc to bcc. The atoms then have to be close to their sites."""

CLOSE = 0.06
"""Root mean square displacement per spacing that counts as close there; heat makes as much."""

WIDER_SCORE = 1.4
"""Factor on the limit of the score within which a refused structure is looked for."""


class Mismatch(StrEnum):
    """Why a structure is no decoration of a parent lattice."""

    EMPTY = "no atoms"
    NOT_PERIODIC = "not periodic"
    NOT_FINITE = "broken coordinates"
    FOREIGN = "foreign element"
    COUNT = "number of atoms"
    VOLUME = "volume"
    SUBLATTICE = "no sublattice"
    STRAIN = "distortion too large"
    FAR = "atoms too far from sites"
    AMBIGUOUS = "ambiguous"
    OTHER_ATOMS = "other atoms"
    NEIGHBOURS = "neighbours changed"


@dataclass(frozen=True)
class MappingFailure:
    """Why a structure has no labeling.

    Attributes
    ----------
    reason : Mismatch
        The kind of reason, to count by; a str such as "ambiguous".
    message : str
        One line with the numbers met and the limits.
    keys : tuple of str
        If ambiguous, the canonical keys of the decorations that fit, the best one first.
    """

    reason: Mismatch
    message: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return reason and message in one line."""
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, eq=False)
class LatticeMatch:
    """A structure seen as a labeling of a parent lattice.

    Attributes
    ----------
    configuration : Configuration
        Of the structure's own cell; where that is smaller than a cell of the parent, of the
        smallest repetition that is one.
    sites : (n_atoms,) int
        Site of ``configuration.supercell`` that each atom sits on; of a repeated cell, one of the
        sites.
    displacement_rms, displacement_max : float
        Distances of the atoms from their sites, Å, in the structure's own (strained) cell and
        after taking out their mean.
    strain : float
        Root mean square of the principal stretches minus one, at the structure's own volume.
    scale : float
        Cube root of the ratio of its volume per site to that of the parent.
    """

    configuration: Configuration
    sites: npt.NDArray[np.intp]
    displacement_rms: float
    displacement_max: float
    strain: float
    scale: float

    @property
    def supercell(self) -> Supercell:
        """The supercell that the structure's lattice vectors span."""
        return self.configuration.supercell

    @property
    def score(self) -> float:
        """Distance from the ideal structure, 0 for none: strain plus displacement per spacing."""
        return self.strain + self.displacement_rms / (spacing(self.supercell.parent) * self.scale)


def map_to_lattice(
    atoms: Atoms, parent: ParentLattice, *, tolerance: float = 0.6, max_strain: float = MAX_STRAIN
) -> LatticeMatch | None:
    """Find the labeling of a parent lattice that a periodic structure is a distortion of.

    The structure may be strained, scaled, relaxed, rattled, shifted as a whole, wrapped, rotated,
    and given in any cell of its lattice with its atoms in any order. Sites without an atom are
    vacancies where the parent allows them.

    Parameters
    ----------
    atoms : ase.Atoms
    parent : ParentLattice
    tolerance : float
        Largest distance, Å, of an atom from its site.
    max_strain : float
        Largest shape strain of the cell.

    Returns
    -------
    LatticeMatch or None
        None if the structure is not on this lattice, or is two decorations about equally well;
        `match_to_lattice` says which and why.
    """
    found = _match(atoms, parent, Limits(tolerance, max_strain, MAX_SCORE))
    return found if isinstance(found, LatticeMatch) else None


def match_to_lattice(
    atoms: Atoms,
    parent: ParentLattice,
    *,
    tolerance: float = 0.6,
    max_strain: float = MAX_STRAIN,
    explain: bool = True,
) -> LatticeMatch | MappingFailure:
    """Find what `map_to_lattice` does, or say why the structure is no decoration of the lattice.

    Parameters
    ----------
    atoms, parent, tolerance, max_strain
        Those of `map_to_lattice`.
    explain : bool
        Look for a structure that was refused within wider limits, and with every species on every
        site, to say by how much it is off: three times as long as the refusal.

    Returns
    -------
    LatticeMatch or MappingFailure
        ``str`` of a failure is one line; its `reason` is one of a few, to count by.
    """
    limits = Limits(tolerance, max_strain, MAX_SCORE)
    found = _match(atoms, parent, limits)
    if found is not None:
        return found
    if not explain:
        message = f"or the cell strained too much: nothing within {tolerance} Å and {max_strain}"
        return MappingFailure(Mismatch.FAR, message)
    return _diagnosis(structure_of(atoms, parent), parent, limits)


def _match(
    atoms: Atoms, parent: ParentLattice, limits: Limits
) -> LatticeMatch | MappingFailure | None:
    """Return the match or what is wrong, None where nothing within the limits is found."""
    wrong = unusable(atoms, parent)
    if wrong is not None:
        return wrong
    structure = structure_of(atoms, parent)
    numbers = cell_numbers(structure, parent)
    if numbers:
        own = _own_orientation(structure, parent, numbers, limits)
        if own is not None and own.score < CERTAIN:
            return own
    for part in (FIRST_LOOK, 1.0):
        narrowed = replace(limits, score=limits.score * part)
        matches = _all_matches(structure, parent, numbers, narrowed)
        if matches and (part == 1.0 or _still_alike(matches[0].score) <= narrowed.score):
            return _unambiguous(matches)
    return None if numbers else _no_numbers(structure, parent)


def unusable(atoms: Atoms, parent: ParentLattice) -> MappingFailure | None:
    """Return what makes a structure no crystal of the parent's species, None if it is one."""
    symbols = atoms.get_chemical_symbols()
    if not symbols:
        return MappingFailure(Mismatch.EMPTY, "the structure is empty")
    if not (all(atoms.pbc) and abs(atoms.cell.volume) > 1e-6):
        message = f"pbc {atoms.pbc.tolist()}, cell volume {abs(atoms.cell.volume):.3g} Å^3"
        return MappingFailure(Mismatch.NOT_PERIODIC, message)
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return MappingFailure(Mismatch.NOT_FINITE, "coordinates that are not finite numbers")
    foreign = sorted(set(symbols) - set(parent.species))
    if foreign or VACANCY in symbols:
        names = ", ".join(foreign or [VACANCY])
        message = f"{names}; the lattice has {', '.join(parent.species)}"
        return MappingFailure(Mismatch.FOREIGN, message)
    return None


def structure_of(atoms: Atoms, parent: ParentLattice) -> Structure:
    """Return the structure in its reduced cell, with labels of the parent's species."""
    from ase.geometry.minkowski_reduction import minkowski_reduce

    cell = np.array(minkowski_reduce(atoms.cell.array)[0], dtype=float)
    labels = [parent.species.index(symbol) for symbol in atoms.symbols]
    return Structure(cell, atoms.positions @ np.linalg.inv(cell), np.array(labels))


def _own_orientation(
    structure: Structure, parent: ParentLattice, numbers: range, limits: Limits
) -> LatticeMatch | None:
    """Return the best match with the matrix that rounding gives, if there is one."""
    exact = structure.cell @ np.linalg.inv(parent.cell)
    volume = np.linalg.det(exact)
    number = min(max(round(abs(volume)), numbers[0]), numbers[-1])
    matrix = np.rint(exact / np.cbrt(abs(volume) / number)).astype(np.int64)
    if round(np.linalg.det(matrix)) != int(np.sign(volume)) * number:
        return None
    matches = _placed(structure, parent, matrix, limits, limits.score)
    return min(matches, key=lambda match: match.score, default=None)


def _all_matches(
    structure: Structure, parent: ParentLattice, numbers: range, limits: Limits
) -> list[LatticeMatch]:
    """Return all matches about as good as the best one, the best first, that one certainly."""
    matches: list[LatticeMatch] = []
    for larger, matrix, bound in _candidates(structure, parent, numbers, limits):
        best = min((match.score for match in matches), default=np.inf)
        wanted = min(limits.score, _still_alike(best))
        if bound <= wanted:
            matches += _placed(larger, parent, matrix, limits, wanted)
    return sorted(matches, key=lambda match: match.score)


def _candidates(
    structure: Structure, parent: ParentLattice, numbers: range, limits: Limits
) -> Iterator[tuple[Structure, npt.NDArray[np.int64], float]]:
    """Yield structures, matrices and bounds: first of the cell itself, then of repeated ones."""
    if numbers:
        found = orientations(structure, parent, numbers, limits)
        for matrix, bound in _distinct(structure, parent, found):
            yield structure, matrix, bound
    for coarse in coarser_parents(parent, structure):
        numbers = cell_numbers(structure, coarse.parent)
        if not numbers:
            continue
        found = orientations(structure, coarse.parent, numbers, limits)
        for matrix, bound in _distinct(structure, coarse.parent, found):
            yield *repeated(structure, coarse, matrix), bound


def _distinct(
    structure: Structure, parent: ParentLattice, found: Orientations
) -> Iterator[tuple[npt.NDArray[np.int64], float]]:
    """Yield matrices and bounds, one of those that the parent's rotations make of each other.

    They give the same labeling up to symmetry; the one yielded turns the parent least.
    """
    proper = parent.rotations[np.linalg.det(parent.rotations) > 0].transpose(0, 2, 1)
    seen: set[bytes] = set()
    for matrix, bound in zip(found.matrices, found.bounds.tolist(), strict=True):
        if matrix.tobytes() in seen:
            continue
        images = matrix @ proper
        seen.update(image.tobytes() for image in images)
        deformations = np.linalg.solve(images @ parent.cell, structure.cell)
        yield images[np.trace(deformations, axis1=1, axis2=2).argmax()], bound
        if len(seen) >= MAX_TRIED * len(proper):
            return


def _placed(
    structure: Structure,
    parent: ParentLattice,
    matrix: npt.NDArray[np.int64],
    limits: Limits,
    largest_score: float,
) -> list[LatticeMatch]:
    """Return the matches within the limits that a matrix gives, one for each placement."""
    strains, scales = shape_strain(structure.cell, (matrix @ parent.cell)[None])
    strain, scale = float(strains[0]), float(scales[0])
    largest_rms = (largest_score - strain) * spacing(parent) * scale
    if strain > limits.strain or largest_rms < 0:
        return []
    found = placements(structure, parent, matrix, largest_rms)
    matches = [_as_match(structure, one, strain, scale) for one in found]
    return [
        match
        for match in matches
        if match.displacement_max <= limits.tolerance and match.score <= largest_score
    ]


def _as_match(
    structure: Structure, placement: Placement, strain: float, scale: float
) -> LatticeMatch:
    labels = np.full(placement.supercell.n_sites, _filler(placement.supercell.parent), np.int8)
    labels[placement.sites] = structure.labels
    distances = np.linalg.norm(placement.displacements, axis=1)
    return LatticeMatch(
        configuration=Configuration(placement.supercell, labels),
        sites=placement.sites[: structure.n_given],
        displacement_rms=float(np.sqrt((distances**2).mean())),
        displacement_max=float(distances.max()),
        strain=strain,
        scale=scale,
    )


def _filler(parent: ParentLattice) -> int:
    """Return the label of sites without an atom; without vacancies there are none."""
    return parent.species.index(VACANCY) if VACANCY in parent.species else 0


def _still_alike(score: float) -> float:
    """Return the score up to which another decoration fits about as well as one with `score`."""
    return ALIKE * score + RESOLUTION


def _unambiguous(matches: list[LatticeMatch]) -> LatticeMatch | MappingFailure:
    """Return the first match unless others, about as good, are other crystals."""
    best = matches[0]
    alike = [match for match in matches if match.score <= _still_alike(best.score)]
    if len(alike) == 1:
        return best
    scores: dict[str, float] = {}
    for match in alike:
        scores.setdefault(match.configuration.key, match.score)
    if len(scores) == 1:
        return best
    fits = " and ".join(f"{key} ({score:.4f})" for key, score in list(scores.items())[:2])
    message = f"{len(scores)} decorations fit about equally well, {fits}"
    return MappingFailure(Mismatch.AMBIGUOUS, message, tuple(scores))


def _no_numbers(structure: Structure, parent: ParentLattice) -> MappingFailure:
    """Say why no number of primitive cells suits the atoms of a structure."""
    n_atoms, n_basis = structure.n_atoms, parent.n_basis
    if VACANCY not in parent.species and n_atoms % n_basis:
        message = f"{n_atoms} atoms, where cells without vacancies have {n_basis} sites each"
        return MappingFailure(Mismatch.COUNT, message)
    shortage = sublattice_shortage(structure, parent)
    if shortage is not None:
        return MappingFailure(Mismatch.SUBLATTICE, shortage)
    ratio = abs(np.linalg.det(structure.cell) / np.linalg.det(parent.cell))
    message = (
        f"{n_atoms} atoms in the volume of {ratio:.2f} primitive cells are too many or too few for "
        f"{n_basis} sites each; where there are vacancies, lengths may differ by {VACANCY_SCALE}"
    )
    return MappingFailure(Mismatch.VOLUME, message)


@lru_cache(maxsize=32)
def _colour_blind(parent: ParentLattice) -> ParentLattice:
    """Return the parent with every species on every site."""
    return replace(parent, allowed=np.ones_like(parent.allowed))


def _diagnosis(structure: Structure, parent: ParentLattice, limits: Limits) -> MappingFailure:
    """Say by how much a structure misses the limits, or that its species are on wrong sites."""
    strain = WIDER_STRAIN * limits.strain
    strained = replace(limits, strain=strain, score=strain + CLOSE, rms=CLOSE)
    wider = WIDER_SCORE * limits.score
    displaced = replace(limits, tolerance=np.inf, score=wider)
    blind = _colour_blind(parent)
    for lattice, margins in ((blind, limits), (blind, strained), (parent, displaced)):
        numbers = cell_numbers(structure, lattice)
        matches = _all_matches(structure, lattice, numbers, margins) if numbers else []
        if matches:
            # Of origins that fit alike the one that puts the fewest atoms on wrong sites.
            match = min(matches, key=lambda one: _forbidden(one, structure, parent).sum())
            return _shortfall(match, structure, parent, limits)
    message = (
        f"no supercell comes near: none strained by up to {limits.strain} scores below {wider:.2f}"
    )
    return MappingFailure(Mismatch.FAR, message)


def _forbidden(
    match: LatticeMatch, structure: Structure, parent: ParentLattice
) -> npt.NDArray[np.bool_]:
    """Return which atoms, (n_given,), are on sites that the parent does not allow them."""
    basis = match.supercell.basis_index[match.sites]
    forbidden: npt.NDArray[np.bool_] = ~parent.allowed[basis, structure.labels[: len(basis)]]
    return forbidden


def _shortfall(
    match: LatticeMatch, structure: Structure, parent: ParentLattice, limits: Limits
) -> MappingFailure:
    """Say what keeps a match within wider rules from being one."""
    if match.strain > limits.strain:
        message = f"the cell is strained by {match.strain:.3f}, at most {limits.strain} is taken"
        return MappingFailure(Mismatch.STRAIN, message)
    if match.displacement_max > limits.tolerance or match.score > limits.score:
        message = (
            f"up to {match.displacement_max:.2f} Å (at most {limits.tolerance}), score "
            f"{match.score:.3f} (at most {limits.score}) with a strain of {match.strain:.3f}"
        )
        return MappingFailure(Mismatch.FAR, message)
    wrong = np.flatnonzero(_forbidden(match, structure, parent))
    names = ", ".join(sorted({parent.species[structure.labels[atom]] for atom in wrong}))
    if names:
        message = f"{len(wrong)} of {structure.n_given} atoms ({names}) on sites that forbid them"
        return MappingFailure(Mismatch.SUBLATTICE, message)
    return MappingFailure(Mismatch.SUBLATTICE, "sites that may not be vacant are left empty")
