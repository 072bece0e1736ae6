"""The numbers of a moment tensor potential, as they stand in a ``.mtp`` file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Self

    import numpy.typing as npt

START_SPREAD = 0.1
"""Standard deviation of the random radial coefficients a training starts from."""


@dataclass(frozen=True, eq=False)
class MtpCoefficients:
    """The numbers of a moment tensor potential with radial Chebyshev basis.

    Site energy (Shapeev, Multiscale Model. Simul. 14, 1153 (2016); several species as in Gubaev
    et al., Comput. Mater. Sci. 156, 148 (2019))::

        V(n_i) = xi_0(z_i) + sum_a xi_a B_a(n_i)
        M_{mu,nu}(n_i) = sum_j f_mu(r_ij, z_i, z_j) u_ij (x) ... (x) u_ij     (nu unit vectors)
        f_mu(r, z_i, z_j) = scaling * sum_b c[z_i, z_j, mu, b] Q_b(r) (max_dist - r)**2

    Parameters
    ----------
    species
        Symbols in the order of the file's types, (n_species,).
    scaling
        Factor of all radial functions (where a file holds two, their product).
    min_dist, max_dist
        Interval of the Chebyshev polynomials, Å; max_dist is the cutoff.
    radial_coeffs
        c, (n_species, n_species, n_radial, radial_size): centre, neighbour, mu, b.
    species_coeffs
        xi_0, (n_species,), eV.
    moment_coeffs
        xi_a, (n_scalars,), eV.
    alpha_index_basic
        (n_basic, 4): mu and the powers of x, y, z of each component of the basic moments.
    alpha_index_times
        (n_times, 4): rows (a, b, factor, c) that mean ``m[c] += factor * m[a] * m[b]``, in order.
    alpha_moment_mapping
        (n_scalars,): which moment is the basis function B_a.
    n_moments
        Length of the moment vector m: the basic ones first, then the products.
    name, tag, version
        Text of the file's header.
    is_start
        Its coefficients were drawn at random: a fit owes nothing to them.
    """

    species: tuple[str, ...]
    scaling: float
    min_dist: float
    max_dist: float
    radial_coeffs: npt.NDArray[np.float64]
    species_coeffs: npt.NDArray[np.float64]
    moment_coeffs: npt.NDArray[np.float64]
    alpha_index_basic: npt.NDArray[np.int64]
    alpha_index_times: npt.NDArray[np.int64]
    alpha_moment_mapping: npt.NDArray[np.int64]
    n_moments: int
    name: str = "MTP1m"
    tag: str = ""
    version: str = "1.1.0"
    is_start: bool = False

    @property
    def n_species(self) -> int:
        """Number of species."""
        return len(self.species)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients: radial, species, moments."""
        return self.radial_coeffs.size + self.species_coeffs.size + self.moment_coeffs.size

    @property
    def parameters(self) -> npt.NDArray[np.float64]:
        """All coefficients, (n_parameters,), in the order radial, species, moments."""
        return np.concatenate([self.radial_coeffs.ravel(), self.species_coeffs, self.moment_coeffs])

    def with_parameters(self, parameters: npt.NDArray[np.float64]) -> Self:
        """Return the potential with other coefficients, (n_parameters,), in that order."""
        radial, species, moments = np.split(
            np.asarray(parameters, dtype=np.float64),
            [self.radial_coeffs.size, self.radial_coeffs.size + self.n_species],
        )
        return replace(
            self,
            radial_coeffs=radial.reshape(self.radial_coeffs.shape),
            species_coeffs=species,
            moment_coeffs=moments,
            is_start=False,
        )
