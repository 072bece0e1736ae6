"""Compiled rows of a fit to energies, forces and stresses off the lattice.

A site's basis functions depend on its basic moments m_k, and these on the positions and on the
radial coefficients. With the moments' derivatives by the positions of one atom, ``K`` (3,
n_basic), the derivatives of the basis functions by the moments, ``J`` (n_scalars, n_basic), and of
``dE/dm`` by the radial coefficients, ``H T`` (n_basic, n_columns), the forces that the site
contributes to that atom have the rows ``K [J^T, H T]`` plus what the radial functions' slopes
change directly. Images of one atom share one ``K``.

These are the rows of a least-squares problem in which the linear coefficients are solved for at
given radial ones (variable projection, Golub & Pereyra, SIAM J. Numer. Anal. 10, 413 (1973)); only
their products are kept, `add_products`. Moments and radial functions are those of Shapeev,
Multiscale Model. Simul. 14, 1153 (2016), with coefficients for each two species (Gubaev et al.,
Comput. Mater. Sci. 156, 148 (2019)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt


class Model(NamedTuple):
    """A potential.

    Parameters
    ----------
    basic
        (n_basic, 4): radial function mu and powers of x, y, z of each basic moment.
    times
        (n_times, 4): a, b, factor, c of ``m[c] += factor * m[a] * m[b]``.
    mapping
        (n_scalars,): which moment each basis function is.
    n_moments
        Number of moments.
    rank
        Highest power of a coordinate.
    radial
        (n_species, n_species, n_radial, size): coefficients by centre and neighbour.
    linear
        (n_species + n_scalars,), eV: the species' energies, then the moment coefficients.
    interval
        Where the Chebyshev polynomials live, Å; its end is the cutoff.
    scaling
        Factor of the radial functions.
    """

    basic: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    mapping: npt.NDArray[np.int64]
    n_moments: int
    rank: int
    radial: npt.NDArray[np.float64]
    linear: npt.NDArray[np.float64]
    interval: tuple[float, float]
    scaling: float


class Structures(NamedTuple):
    """Structures of one set of species, one after the other.

    Only species that occur have columns: a binary in a set of five species has a sixth of the
    radial coefficients to work out.

    Parameters
    ----------
    species
        (n_present,): the species that occur.
    local
        (n_species,): place of each in `species`, -1 for the others.
    atoms
        (n_structures + 1,): structure s has the atoms ``atoms[s]`` to ``atoms[s + 1]``.
    types
        (n_atoms,): species of the atoms.
    pairs
        (n_atoms + 1,): atom i has the pairs ``pairs[i]`` to ``pairs[i + 1]``.
    neighbours
        (n_pairs,): counted from the structure's first atom.
    vectors
        (n_pairs, 3), Å: from the atom to its neighbour.
    volumes
        (n_structures,), Å³.
    factors
        (n_structures, 3): multiply energy, forces and stress; zero for what is not fitted to.
    energies, forces, stresses
        What is known: (n_structures,) eV per structure, (n_atoms, 3) eV/Å, (n_structures, 6)
        eV/Å³ in the order xx, yy, zz, yz, xz, xy.
    """

    species: npt.NDArray[np.int64]
    local: npt.NDArray[np.int64]
    atoms: npt.NDArray[np.int64]
    types: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float64]
    volumes: npt.NDArray[np.float64]
    factors: npt.NDArray[np.float64]
    energies: npt.NDArray[np.float64]
    forces: npt.NDArray[np.float64]
    stresses: npt.NDArray[np.float64]


class Scratch(NamedTuple):
    """Working memory of one site, n_columns = n_present * n_radial * size radial columns.

    Parameters
    ----------
    moments, adjoints
        (n_moments,): all moments m, and dE/dm.
    tangents
        (n_moments, n_basic + n_columns): dm/d(basic moments), then dm/d(radial coefficients).
    seconds
        (n_moments, n_columns): derivatives of `adjoints` by the radial coefficients.
    by_position
        (3 * n_slots + 6, n_basic) at least: ``K`` of the atoms seen and of the strain.
    by_moment
        (n_basic, n_scalars + n_columns): ``[J^T, H T]``.
    angular
        (n_pairs, n_basic, 4): angular factors and their derivatives by the vector, 1/Å.
    radial
        (n_pairs, 2, size): radial basis functions, Å², and their slopes, Å.
    powers
        (rank + 1, 3): of one unit vector's components; row 0 stays one.
    slots
        (n_atoms,): where in `by_position` an atom of the structure stands, -1 for nowhere.
    """

    moments: npt.NDArray[np.float64]
    adjoints: npt.NDArray[np.float64]
    tangents: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    by_position: npt.NDArray[np.float64]
    by_moment: npt.NDArray[np.float64]
    angular: npt.NDArray[np.float64]
    radial: npt.NDArray[np.float64]
    powers: npt.NDArray[np.float64]
    slots: npt.NDArray[np.int64]


@njit(cache=True)
def scratch(model: Model, structures: Structures) -> Scratch:
    """Return working memory large enough for every site of `structures`."""
    # Once per call, not per site or structure: what is filled is cleared where it is filled.
    n_basic, n_scalars = model.basic.shape[0], model.mapping.shape[0]
    n_radial, size = model.radial.shape[2], model.radial.shape[3]
    width = structures.species.shape[0] * n_radial * size
    n_pairs = 1
    for atom in range(structures.pairs.shape[0] - 1):
        n_pairs = max(n_pairs, structures.pairs[atom + 1] - structures.pairs[atom])
    n_atoms = 1
    for structure in range(structures.atoms.shape[0] - 1):
        n_atoms = max(n_atoms, structures.atoms[structure + 1] - structures.atoms[structure])
    return Scratch(
        np.zeros(model.n_moments),
        np.zeros(model.n_moments),
        np.zeros((model.n_moments, n_basic + width)),
        np.zeros((model.n_moments, width)),
        np.zeros((3 * min(n_pairs, n_atoms) + 6, n_basic)),
        np.zeros((n_basic, n_scalars + width)),
        np.zeros((n_pairs, n_basic, 4)),
        np.zeros((n_pairs, 2, size)),
        np.ones((model.rank + 1, 3)),
        np.full(n_atoms, -1),
    )


@njit(cache=True)
def _radial_basis(
    distance: float,
    interval: tuple[float, float],
    scaling: float,
    out: npt.NDArray[np.float64],
) -> None:
    """Work out the radial basis functions of Shapeev (2016), Q_b(r) (R_cut - r)².

    Parameters
    ----------
    distance
        r, Å.
    interval
        Where the Chebyshev polynomials Q_b live, Å; its end is R_cut.
    scaling
        Factor.
    out
        (2, size), written: values, Å², and slopes by the distance, Å.
    """
    low, high = interval
    slope = 2.0 / (high - low)
    x = (2.0 * distance - (low + high)) / (high - low)
    gap = max(high - distance, 0.0)
    # T_(b+1) = 2 x T_b - T_(b-1), and its derivative: no cosines, and both at once.
    before, value, before_slope, value_slope = 1.0, 1.0, 0.0, 0.0
    for b in range(out.shape[1]):
        if b == 1:
            value, value_slope = x, slope
        elif b > 1:
            after = 2.0 * x * value - before
            after_slope = 2.0 * (slope * value + x * value_slope) - before_slope
            before, value, before_slope, value_slope = value, after, value_slope, after_slope
        out[0, b] = scaling * value * gap * gap
        out[1, b] = scaling * (value_slope * gap * gap - 2.0 * value * gap)


@njit(cache=True)
def _angular(
    basic: npt.NDArray[np.int64],
    unit: npt.NDArray[np.float64],
    inverse: float,
    powers: npt.NDArray[np.float64],
    out: npt.NDArray[np.float64],
) -> None:
    """Work out the angular factors A(u) = u_x^a u_y^b u_z^c, u = r / |r|, of the basic moments.

    Parameters
    ----------
    basic
        (n_basic, 4): mu and the powers.
    unit, inverse
        u, (3,), and 1 / |r|, 1/Å.
    powers
        (rank + 1, 3), overwritten but for row 0.
    out
        (n_basic, 4), written: A, then its derivatives by the vector, 1/Å.
    """
    for axis in range(3):
        for n in range(1, powers.shape[0]):
            powers[n, axis] = powers[n - 1, axis] * unit[axis]
    for k in range(basic.shape[0]):
        x, y, z = basic[k, 1], basic[k, 2], basic[k, 3]
        px, py, pz = powers[x, 0], powers[y, 1], powers[z, 2]
        value = px * py * pz
        # dA/dr = (grad A - u (u . grad A)) / |r|, and u . grad A is the degree times A (Euler).
        along = (x + y + z) * value
        out[k, 0] = value
        gx = x * powers[x - 1, 0] * py * pz if x > 0 else 0.0
        gy = y * powers[y - 1, 1] * px * pz if y > 0 else 0.0
        gz = z * powers[z - 1, 2] * px * py if z > 0 else 0.0
        out[k, 1] = (gx - along * unit[0]) * inverse
        out[k, 2] = (gy - along * unit[1]) * inverse
        out[k, 3] = (gz - along * unit[2]) * inverse


@njit(cache=True)
def _number_slots(structures: Structures, work: Scratch, atom: int, first: int) -> int:
    """Give a slot to each other atom that the site sees, images together; return how many.

    In small cells a site sees dozens of images of few atoms: the products with ``[J^T, H T]``
    come once per atom.
    """
    n_slots = 0
    for pair in range(structures.pairs[atom], structures.pairs[atom + 1]):
        j = structures.neighbours[pair]
        if j != atom - first and work.slots[j] < 0:
            work.slots[j] = n_slots
            n_slots += 1
    return n_slots


@njit(cache=True)
def _add_by_position(
    basic: npt.NDArray[np.int64],
    angular: npt.NDArray[np.float64],
    radial: npt.NDArray[np.float64],
    vector: npt.NDArray[np.float64],
    by_atom: npt.NDArray[np.float64],
    by_strain: npt.NDArray[np.float64],
) -> None:
    """Add what one neighbour does to the derivatives of the basic moments.

    Parameters
    ----------
    basic
        (n_basic, 4).
    angular
        (n_basic, 4), from `_angular`.
    radial
        (2, n_radial): the neighbour's radial functions f_mu and their slopes.
    vector
        (3,), Å.
    by_atom
        (3, n_basic), added to: by the neighbour's position; empty for an image of the site itself,
        which moves with it.
    by_strain
        (6, n_basic), added to: by the strain, xx, yy, zz, yz, xz, xy.
    """
    x, y, z = vector[0], vector[1], vector[2]
    inverse = 1.0 / np.sqrt(x * x + y * y + z * z)
    for k in range(basic.shape[0]):
        value = radial[0, basic[k, 0]]
        # d(f A)/dr = f' A r / |r| + f dA/dr.
        along = radial[1, basic[k, 0]] * angular[k, 0] * inverse
        gx = along * x + value * angular[k, 1]
        gy = along * y + value * angular[k, 2]
        gz = along * z + value * angular[k, 3]
        if by_atom.shape[0] > 0:
            by_atom[0, k] += gx
            by_atom[1, k] += gy
            by_atom[2, k] += gz
        # Strain moves a neighbour by itself times its vector, whichever image it is.
        by_strain[0, k] += x * gx
        by_strain[1, k] += y * gy
        by_strain[2, k] += z * gz
        # The energy does not change under rotations: the strain derivative is symmetric.
        by_strain[3, k] += 0.5 * (y * gz + z * gy)
        by_strain[4, k] += 0.5 * (x * gz + z * gx)
        by_strain[5, k] += 0.5 * (x * gy + y * gx)


@njit(cache=True)
def _gather(
    model: Model, structures: Structures, work: Scratch, atom: int, first: int, with_forces: bool
) -> int:
    """Fill the basic moments of one site and their derivatives; return the number of slots.

    ``by_position`` gets three rows for each slot, then six of the strain; `first` is the
    structure's first atom, `atom` is counted through all structures.
    """
    basic, n_basic = model.basic, model.basic.shape[0]
    n_radial, size = model.radial.shape[2], model.radial.shape[3]
    centre, start = structures.types[atom], structures.pairs[atom]
    work.moments[:] = 0.0
    work.tangents[:n_basic] = 0.0
    # Basic moments by themselves: from these, `_differentiate` carries J and T in one pass.
    for k in range(n_basic):
        work.tangents[k, k] = 1.0
    n_slots = _number_slots(structures, work, atom, first) if with_forces else 0
    strain = work.by_position[3 * n_slots : 3 * n_slots + 6]
    work.by_position[: 3 * n_slots + 6] = 0.0
    functions, unit = np.empty((2, n_radial)), np.empty(3)
    # All that depends on one vector, in one pass; angular and radial factors stay in `work`, where
    # `_add_direct` finds them.
    for pair in range(start, structures.pairs[atom + 1]):
        vector = structures.vectors[pair]
        distance = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
        for axis in range(3):
            unit[axis] = vector[axis] / distance
        angular, radial = work.angular[pair - start], work.radial[pair - start]
        _angular(basic, unit, 1.0 / distance, work.powers, angular)
        _radial_basis(distance, model.interval, model.scaling, radial)
        j = structures.neighbours[pair]
        kind = structures.types[first + j]
        for mu in range(n_radial):
            functions[0, mu] = functions[1, mu] = 0.0
            for b in range(size):
                functions[0, mu] += model.radial[centre, kind, mu, b] * radial[0, b]
                functions[1, mu] += model.radial[centre, kind, mu, b] * radial[1, b]
        column = n_basic + structures.local[kind] * n_radial * size
        for k in range(n_basic):
            mu = basic[k, 0]
            work.moments[k] += functions[0, mu] * angular[k, 0]
            # dm/dc does not depend on c: moments are linear in the radial coefficients.
            for b in range(size):
                work.tangents[k, column + mu * size + b] += angular[k, 0] * radial[0, b]
        if with_forces:
            # An image of the site itself has no slot, and gets no rows below: only strain moves it.
            slot = 3 * max(work.slots[j], 0)
            rows = work.by_position[slot : slot + 3 * (j != atom - first)]
            _add_by_position(basic, angular, functions, vector, rows, strain)
    return n_slots


@njit(cache=True)
def _complete(model: Model, work: Scratch, n_species: int) -> None:
    """Work out the products of one site and ``dE/dm`` of all its moments (reverse mode).

    Everything is in `work`, whose basic moments are known; eV per unit of a moment.
    """
    times, moments, adjoints = model.times, work.moments, work.adjoints
    for row in range(times.shape[0]):
        moments[times[row, 3]] += times[row, 2] * moments[times[row, 0]] * moments[times[row, 1]]
    adjoints[:] = 0.0
    for s in range(model.mapping.shape[0]):
        adjoints[model.mapping[s]] += model.linear[n_species + s]
    for row in range(times.shape[0] - 1, -1, -1):
        a, b = times[row, 0], times[row, 1]
        weight = times[row, 2] * adjoints[times[row, 3]]
        adjoints[a] += weight * moments[b]
        adjoints[b] += weight * moments[a]


@njit(cache=True)
def _differentiate(model: Model, work: Scratch) -> None:
    """Fill ``by_moment`` = [J^T, H T] of one site, after `_complete`.

    T are the derivatives of the basic moments by the radial coefficients. Forward through the
    products for J and T of all moments, back for the derivatives of ``dE/dm`` along T (forward over
    reverse mode): H, (n_basic, n_basic), is never there, only its product with T.
    """
    times, moments, adjoints = model.times, work.moments, work.adjoints
    tangents, seconds = work.tangents, work.seconds
    n_basic, width = model.basic.shape[0], tangents.shape[1]
    tangents[n_basic:] = 0.0
    seconds[:] = 0.0
    for row in range(times.shape[0]):
        left, right, out = tangents[times[row, 0]], tangents[times[row, 1]], tangents[times[row, 3]]
        by_left = times[row, 2] * moments[times[row, 1]]
        by_right = times[row, 2] * moments[times[row, 0]]
        # Rows of `tangents` are contiguous: this and the loop below become vector code.
        for k in range(width):
            out[k] += by_left * left[k] + by_right * right[k]
    for row in range(times.shape[0] - 1, -1, -1):
        a, b, c = times[row, 0], times[row, 1], times[row, 3]
        factor = float(times[row, 2])
        weight = factor * adjoints[c]  # complete: only later products, done before, add to it
        by_a, by_b = factor * moments[b], factor * moments[a]
        outer, into_a, into_b = seconds[c], seconds[a], seconds[b]
        of_a, of_b = tangents[a, n_basic:], tangents[b, n_basic:]
        for k in range(width - n_basic):
            into_a[k] += by_a * outer[k] + weight * of_b[k]
            into_b[k] += by_b * outer[k] + weight * of_a[k]
    n_scalars = model.mapping.shape[0]
    for k in range(n_basic):
        # In one array, so that one matrix product serves linear and radial columns.
        for s in range(n_scalars):
            work.by_moment[k, s] = tangents[model.mapping[s], k]
        work.by_moment[k, n_scalars:] = seconds[k]


@njit(cache=True)
def _scatter(
    structures: Structures,
    work: Scratch,
    atom: int,
    rows: npt.NDArray[np.float64],
    products: npt.NDArray[np.float64],
    columns: tuple[int, int, int],
) -> None:
    """Add ``products`` = K [J^T, H T] of one site to the rows of its structure.

    Parameters
    ----------
    structures, work
        With the slots of this site, which are given back.
    atom
        The site, counted through all structures.
    rows
        (1 + 3 n_atoms + 6, n_columns), added to: energy, forces atom by atom, strain.
    products
        (3 * n_slots + 6, n_scalars + radial columns of one centre).
    columns
        The structure's first atom, the number of species and scalars together, the first radial
        column of the centre.
    """
    first, linear, radial = columns
    n_present = structures.species.shape[0]
    n_scalars = linear - n_present
    n_slots = (products.shape[0] - 6) // 3
    own = 1 + 3 * (atom - first)
    for pair in range(structures.pairs[atom], structures.pairs[atom + 1]):
        j = structures.neighbours[pair]
        slot = work.slots[j]
        if j == atom - first or slot < 0:
            continue
        work.slots[j] = -1  # once for all images, and ready for the next site
        # Forces are minus the derivatives; what pushes the neighbour pulls the site.
        for axis in range(3):
            product = products[3 * slot + axis]
            theirs, ours = rows[1 + 3 * j + axis], rows[own + axis]
            for k in range(n_scalars):
                theirs[n_present + k] -= product[k]
                ours[n_present + k] += product[k]
            for k in range(n_scalars, product.shape[0]):
                theirs[radial + k - n_scalars] -= product[k]
                ours[radial + k - n_scalars] += product[k]
    strain = rows.shape[0] - 6
    for component in range(6):
        product, out = products[3 * n_slots + component], rows[strain + component]
        for k in range(n_scalars):
            out[n_present + k] += product[k]
        for k in range(n_scalars, product.shape[0]):
            out[radial + k - n_scalars] += product[k]


@njit(cache=True)
def _add_direct(
    model: Model,
    structures: Structures,
    work: Scratch,
    atom: int,
    rows: npt.NDArray[np.float64],
    columns: tuple[int, int, int],
) -> None:
    """Add ``dE/dm`` times the derivatives of the pairs' radial functions by their coefficients.

    The part of d(force)/dc in which the moments' derivatives by positions change, not ``dE/dm``.
    Arguments as in `_scatter`; `work` has ``adjoints``, angular and radial factors of the site.
    """
    basic = model.basic
    n_radial, size = model.radial.shape[2], model.radial.shape[3]
    first, _, radial_column = columns
    own, strain = 1 + 3 * (atom - first), rows.shape[0] - 6
    terms = np.empty((n_radial, 4))
    start = structures.pairs[atom]
    for pair in range(start, structures.pairs[atom + 1]):
        vector = structures.vectors[pair]
        inverse = 1.0 / np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
        angular, radial = work.angular[pair - start], work.radial[pair - start]
        # Moments of one mu share their radial function: added up first, so that what follows goes
        # with the coefficients, not with these times the moments.
        terms[:] = 0.0
        for k in range(basic.shape[0]):
            for component in range(4):
                terms[basic[k, 0], component] += work.adjoints[k] * angular[k, component]
        j = structures.neighbours[pair]
        column = radial_column + structures.local[structures.types[first + j]] * n_radial * size
        for mu in range(n_radial):
            for b in range(size):
                at = column + mu * size + b
                along = terms[mu, 0] * radial[1, b] * inverse
                gx = along * vector[0] + terms[mu, 1] * radial[0, b]
                gy = along * vector[1] + terms[mu, 2] * radial[0, b]
                gz = along * vector[2] + terms[mu, 3] * radial[0, b]
                # For an image of the site itself the two cancel, as they should.
                rows[own, at] += gx
                rows[own + 1, at] += gy
                rows[own + 2, at] += gz
                rows[1 + 3 * j, at] -= gx
                rows[2 + 3 * j, at] -= gy
                rows[3 + 3 * j, at] -= gz
                rows[strain, at] += vector[0] * gx
                rows[strain + 1, at] += vector[1] * gy
                rows[strain + 2, at] += vector[2] * gz
                rows[strain + 3, at] += 0.5 * (vector[1] * gz + vector[2] * gy)
                rows[strain + 4, at] += 0.5 * (vector[0] * gz + vector[2] * gx)
                rows[strain + 5, at] += 0.5 * (vector[0] * gy + vector[1] * gx)


@njit(cache=True)
def _finish(
    model: Model, structures: Structures, structure: int, rows: npt.NDArray[np.float64]
) -> None:
    """Turn strain into stress, fill the last column with the residuals, multiply by factors.

    `rows`, (1 + 3 n_atoms + 6, n_columns), come in eV, eV/Å and eV per unit of what a column
    stands for; the residuals are what the potential gives too much, its linear part times the rows:
    the energy is linear in these coefficients, so no second evaluation is needed.
    """
    n_present, n_scalars = structures.species.shape[0], model.mapping.shape[0]
    first, n_species = structures.atoms[structure], model.radial.shape[0]
    last = rows.shape[1] - 1
    strain = rows.shape[0] - 6
    factors = structures.factors[structure]
    if factors[2] > 0.0:
        rows[strain:] /= structures.volumes[structure]
    for row in range(rows.shape[0]):
        if row == 0:
            factor, target = factors[0], structures.energies[structure]
        elif row < strain:
            factor = factors[1]
            target = structures.forces[first + (row - 1) // 3, (row - 1) % 3]
        else:
            factor, target = factors[2], structures.stresses[structure, row - strain]
        # Not known or not wanted: a row of zeros changes no product, whatever its target.
        if factor == 0.0:
            rows[row] = 0.0
            continue
        found = 0.0
        for k in range(n_present):
            found += rows[row, k] * model.linear[structures.species[k]]
        for k in range(n_scalars):
            found += rows[row, n_present + k] * model.linear[n_species + k]
        rows[row, last] = found - target
        rows[row] *= factor


@njit(cache=True)
def structure_rows(
    model: Model,
    structures: Structures,
    work: Scratch,
    structure: int,
    rows: npt.NDArray[np.float64],
) -> None:
    """Fill the weighted rows of one structure.

    Parameters
    ----------
    model, structures
        Where, and of what.
    work
        From `scratch`.
    structure
        Which structure.
    rows
        (1 + 3 n_atoms + 6, n_columns): energy, forces, stress. Columns are the present species,
        the basis functions, the radial coefficients of present species (centre, neighbour, mu, b)
        and what the potential gives too much.
    """
    rows[:] = 0.0
    n_present, n_scalars = structures.species.shape[0], model.mapping.shape[0]
    width = n_present * model.radial.shape[2] * model.radial.shape[3]
    n_basic, n_species = model.basic.shape[0], model.radial.shape[0]
    first = structures.atoms[structure]
    factors = structures.factors[structure]
    with_forces = factors[1] > 0.0 or factors[2] > 0.0
    for atom in range(first, structures.atoms[structure + 1]):
        centre = structures.local[structures.types[atom]]
        radial = n_present + n_scalars + centre * width
        n_slots = _gather(model, structures, work, atom, first, with_forces)
        _complete(model, work, n_species)
        rows[0, centre] += 1.0
        # The energy: 1 for the species, basis functions, and dE/dm dm/dc for radial coefficients.
        for s in range(n_scalars):
            rows[0, n_present + s] += work.moments[model.mapping[s]]
        for k in range(n_basic):
            for column in range(width):
                change = work.adjoints[k] * work.tangents[k, n_basic + column]
                rows[0, radial + column] += change
        if not with_forces:
            continue
        _differentiate(model, work)
        # One matrix product (BLAS) for all atoms that the site sees and all columns.
        products = np.dot(work.by_position[: 3 * n_slots + 6], work.by_moment)
        columns = (first, n_present + n_scalars, radial)
        _scatter(structures, work, atom, rows, products, columns)
        _add_direct(model, structures, work, atom, rows, columns)
    _finish(model, structures, structure, rows)


@njit(cache=True)
def add_products(
    model: Model,
    structures: Structures,
    which: npt.NDArray[np.int64],
    gram: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Add ``rows^T rows`` of some structures to their sum: the normal equations.

    Parameters
    ----------
    model, structures
        Where, and of what.
    which
        (n,): structures to add.
    gram
        (n_columns, n_columns), added to; columns as in `structure_rows`.

    Returns
    -------
    (n, 3)
        Of each structure `which` (n,) the sums of squared weighted residuals of its energy, its
        forces and its stress.
    """
    work = scratch(model, structures)
    n_columns = gram.shape[0]
    sums = np.zeros((which.shape[0], 3))
    largest = 0
    for n in range(which.shape[0]):
        s = which[n]
        largest = max(largest, 7 + 3 * (structures.atoms[s + 1] - structures.atoms[s]))
    # Products of many rows at once cost less; these still fit into the cache.
    buffer = np.empty((max(largest, 512), n_columns))
    filled = 0
    for n in range(which.shape[0]):
        s = which[n]
        n_rows = 7 + 3 * (structures.atoms[s + 1] - structures.atoms[s])
        if filled + n_rows > buffer.shape[0]:
            gram += np.dot(buffer[:filled].T, buffer[:filled])
            filled = 0
        rows = buffer[filled : filled + n_rows]
        structure_rows(model, structures, work, s, rows)
        residuals = rows[:, n_columns - 1]
        sums[n, 0] = residuals[0] ** 2
        sums[n, 1] = np.sum(residuals[1 : n_rows - 6] ** 2)
        sums[n, 2] = np.sum(residuals[n_rows - 6 :] ** 2)
        filled += n_rows
    gram += np.dot(buffer[:filled].T, buffer[:filled])
    return sums


@njit(cache=True)
def energy_rows(
    model: Model, structures: Structures, which: npt.NDArray[np.int64], n_columns: int
) -> npt.NDArray[np.float64]:
    """Return the weighted energy rows of some structures; see `structure_rows`.

    The factors of forces and stresses must be zero, which spares working them out.

    Parameters
    ----------
    model, structures
        Where, and of what.
    which
        (n,): structures.
    n_columns
        Columns of a row.

    Returns
    -------
    (n, n_columns)
        Weighted, eV per unit of what a column stands for.
    """
    work = scratch(model, structures)
    result = np.empty((which.shape[0], n_columns))
    largest = 0
    for n in range(which.shape[0]):
        s = which[n]
        largest = max(largest, 7 + 3 * (structures.atoms[s + 1] - structures.atoms[s]))
    rows = np.zeros((largest, n_columns))
    for n in range(which.shape[0]):
        s = which[n]
        n_rows = 7 + 3 * (structures.atoms[s + 1] - structures.atoms[s])
        structure_rows(model, structures, work, s, rows[:n_rows])
        result[n] = rows[0]
    return result
