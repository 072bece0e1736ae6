"""Write potentials as ``.mtp`` files of MLIP-2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latticesearch.potential.mtp.coefficients import MtpCoefficients

SUPPORTED_VERSION = "1.1.0"
SUPPORTED_RADIAL_BASIS = "RBChebyshev"


def format_mtp(potential: MtpCoefficients) -> str:
    """Return the text of a ``.mtp`` file in the layout of MLIP-2.

    Numbers have 17 significant digits, so reading the text gives back the same doubles.
    """
    n_radial, radial_size = potential.radial_coeffs.shape[2:]
    lines = [
        "MTP",
        f"version = {SUPPORTED_VERSION}",
        # MLIP reads one word here.
        f"potential_name = {'_'.join(potential.name.split()) or 'MTP1m'}",
        f"scaling = {potential.scaling:.16e}",
        f"species_count = {potential.n_species}",
        f"potential_tag = {' '.join(potential.tag.split())}",
        f"radial_basis_type = {SUPPORTED_RADIAL_BASIS}",
        f"\tmin_dist = {potential.min_dist:.16e}",
        f"\tmax_dist = {potential.max_dist:.16e}",
        f"\tradial_basis_size = {radial_size}",
        f"\tradial_funcs_count = {n_radial}",
        "\tradial_coeffs",
        *_radial_lines(potential.radial_coeffs),
        f"alpha_moments_count = {potential.n_moments}",
        f"alpha_index_basic_count = {len(potential.alpha_index_basic)}",
        f"alpha_index_basic = {_table(potential.alpha_index_basic)}",
        f"alpha_index_times_count = {len(potential.alpha_index_times)}",
        f"alpha_index_times = {_table(potential.alpha_index_times)}",
        f"alpha_scalar_moments = {len(potential.alpha_moment_mapping)}",
        f"alpha_moment_mapping = {{{', '.join(map(str, potential.alpha_moment_mapping))}}}",
        f"species_coeffs = {_row(potential.species_coeffs)}",
        f"moment_coeffs = {_row(potential.moment_coeffs)}",
    ]
    return "\n".join(lines) + "\n"


def _radial_lines(coefficients: npt.NDArray[np.float64]) -> list[str]:
    """Return the lines of radial coefficients, (n_species, n_species, n_radial, radial_size)."""
    lines = []
    for centre, of_centre in enumerate(coefficients):
        for neighbour, functions in enumerate(of_centre):
            lines.append(f"\t\t{centre}-{neighbour}")
            lines.extend(f"\t\t\t{_row(function)}" for function in functions)
    return lines


def _row(numbers: npt.NDArray[np.float64]) -> str:
    """Return numbers, (n,), in braces, with all digits of a double."""
    return "{" + ", ".join(f"{number:.16e}" for number in numbers) + "}"


def _table(rows: npt.NDArray[np.int64]) -> str:
    """Return rows of integers, (n, m), in braces within braces."""
    return "{" + ", ".join("{" + ", ".join(map(str, row)) + "}" for row in rows) + "}"
