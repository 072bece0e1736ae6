"""Read ``.mtp`` files of MLIP-2 and MLIP-3 (``.almtp``) and of motep; write those of MLIP-2.

Only what can be evaluated correctly is read: format version 1.1.0 with the radial basis
RBChebyshev. Everything else is refused with the line that says why, because a file read wrongly
gives plausible wrong energies.

MLIP-3 may name the pairs of species by atomic numbers, leaves ``species_count`` out before
training, and knows other words for the radial interval; motep has words of its own for it. All
mean the same.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from latticesearch.errors import InputError
from latticesearch.potential.mtp.model import MtpPotential
from latticesearch.potential.mtp.writing import (
    SUPPORTED_RADIAL_BASIS,
    SUPPORTED_VERSION,
    format_mtp,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["format_mtp", "parse_mtp", "read_mtp"]

log = logging.getLogger(__name__)

_SELECTION_MARK = b"#MVS"
"""Start of the binary active set that MLIP appends to potentials used for active learning."""

_MAX_SCALINGS = 2
_REQUIRED = (
    "radial_basis_type",
    "min_dist",
    "max_dist",
    "radial_basis_size",
    "radial_funcs_count",
    "alpha_moments_count",
    "alpha_index_basic_count",
    "alpha_index_basic",
    "alpha_index_times_count",
    "alpha_index_times",
    "alpha_scalar_moments",
    "alpha_moment_mapping",
)
_OPTIONAL = (
    "version",
    "species_count",
    "potential_name",
    "scaling",
    "potential_tag",
    "radial_coeffs",
    "species_coeffs",
    "moment_coeffs",
)
_SAME = {
    "min_val": "min_dist",
    "min": "min_dist",
    "max_val": "max_dist",
    "max": "max_dist",
    "basis_size": "radial_basis_size",
    "size": "radial_basis_size",
}
"""Other words for entries: those of MLIP-3, and the short ones of motep."""

_OTHER_KINDS = {
    "magnetic_basis_type": "potentials with magnetic moments",
    "mag_basis_size": "potentials with magnetic moments",
    "L": "spherical-harmonics potentials (SUS2-MLIP)",
    "scaling_map": "spherical-harmonics potentials (SUS2-MLIP)",
}
"""Entries that only another kind of potential has."""


def read_mtp(path: str | Path, species: Sequence[str] | None = None) -> MtpPotential:
    """Read a ``.mtp`` file of MLIP-2, MLIP-3 (``.almtp``) or motep.

    Parameters
    ----------
    path
        The file.
    species
        Symbols in the order of the file's types. A file of MLIP-2 holds only their number; if a
        file of MLIP-3 names its types by atomic numbers, this may be left out.

    Raises
    ------
    InputError
        The file cannot be read, or `species` does not name each of its types once.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    text = content.split(_SELECTION_MARK, maxsplit=1)[0].decode("utf-8", errors="replace")
    return parse_mtp(text, species, source=str(path))


def parse_mtp(
    text: str, species: Sequence[str] | None = None, *, source: str = "MTP text"
) -> MtpPotential:
    """Return the potential that the text of a ``.mtp`` file describes.

    A file without coefficients (an untrained potential) gives zeros, with a warning in the log;
    its number of species is then whatever `species` says.

    Parameters
    ----------
    text
        Content of the file.
    species
        Symbols in the order of the file's types.
    source
        Name of the file, for error messages.

    Raises
    ------
    InputError
        The text is not a supported potential, or `species` does not name each type once.
    """
    return _Parser(source, _fields(text, source)).potential(species)


@dataclass(frozen=True)
class _Field:
    """One entry: its line number, the text behind '=', and the numbered lines that follow."""

    line: int
    value: str
    more: list[tuple[int, str]]


def _fields(text: str, source: str) -> dict[str, list[_Field]]:
    """Split the text into its fields; a field's value reaches to the next line with a key."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() == "MTP"), None)
    if start is None:
        raise InputError(f"{source}, line 1: not an .mtp file (no line 'MTP')")
    fields: dict[str, list[_Field]] = {}
    current: _Field | None = None
    for number, raw in enumerate(lines[start + 1 :], start=start + 2):
        line = raw.strip()
        key, equals, value = (part.strip() for part in line.partition("="))
        if equals or key == "radial_coeffs":
            if key in _OTHER_KINDS:
                raise InputError(
                    f"{source}, line {number}: {key}: {_OTHER_KINDS[key]} are not supported"
                )
            key = _SAME.get(key, key)
            if key not in _REQUIRED and key not in _OPTIONAL:
                raise InputError(f"{source}, line {number}: unknown entry '{key[:40]}'")
            current = _Field(number, value, [])
            fields.setdefault(key, []).append(current)
        elif line and current is not None:
            current.more.append((number, line))
        elif line:
            raise InputError(
                f"{source}, line {number}: expected 'key = value', found '{line[:40]}'"
            )
    return fields


class _Parser:
    """Turns the fields of one file into a potential; knows the file's name for its errors."""

    def __init__(self, source: str, fields: dict[str, list[_Field]]) -> None:
        self.source = source
        self.fields = fields

    def potential(self, species: Sequence[str] | None) -> MtpPotential:
        """Return the potential.

        The version and the radial basis come first: another format may lack further fields.
        """
        self.check_kind()
        self.check_complete()
        trained = self.is_trained()
        symbols = self.symbols(species, trained=trained)
        n_radial = self.integer("radial_funcs_count", minimum=1)
        n_moments = self.integer("alpha_moments_count", minimum=1)
        mapping = self.mapping(n_moments)
        basic = self.basic(n_radial, n_moments)
        min_dist, max_dist = self.interval()
        return MtpPotential(
            species=symbols,
            scaling=self.scaling(),
            min_dist=min_dist,
            max_dist=max_dist,
            radial_coeffs=self.radial(symbols, n_radial, trained=trained),
            species_coeffs=self.coefficients("species_coeffs", len(symbols), trained=trained),
            moment_coeffs=self.coefficients("moment_coeffs", len(mapping), trained=trained),
            alpha_index_basic=basic,
            alpha_index_times=self.times(len(basic), n_moments),
            alpha_moment_mapping=mapping,
            n_moments=n_moments,
            name=self.text("potential_name", "MTP1m"),
            tag=self.text("potential_tag", ""),
            version=SUPPORTED_VERSION,
        )

    def fail(self, key: str, reason: str, line: int | None = None) -> NoReturn:
        """Raise the error of the field `key`, which starts on another line than `line`."""
        line = self.fields[key][0].line if line is None else line
        raise InputError(f"{self.source}, line {line}: {key}: {reason}")

    def check_kind(self) -> None:
        """Refuse other formats and radial bases."""
        version = self.text("version", "none")
        if version != SUPPORTED_VERSION:
            line = self.fields["version"][0].line if "version" in self.fields else 1
            raise InputError(
                f"{self.source}, line {line}: format version {version} is not supported, "
                f"only {SUPPORTED_VERSION} (convert the potential with MLIP-2)"
            )
        basis = self.text("radial_basis_type", "")
        if basis and basis != SUPPORTED_RADIAL_BASIS:
            self.fail(
                "radial_basis_type", f"'{basis}' is not supported, only {SUPPORTED_RADIAL_BASIS}"
            )

    def check_complete(self) -> None:
        """Refuse missing and repeated fields."""
        needed = _REQUIRED if not self.radial_lines() else ("species_count", *_REQUIRED)
        missing = [key for key in needed if key not in self.fields]
        if missing:
            last = max(field.line for fields in self.fields.values() for field in fields)
            raise InputError(
                f"{self.source}, line {last}: the file ends without {', '.join(missing)}"
            )
        for key, found in self.fields.items():
            if len(found) > (_MAX_SCALINGS if key == "scaling" else 1):
                self.fail(key, f"found again on line {found[-1].line}")

    def is_trained(self) -> bool:
        """Return whether the file holds coefficients; some but not all is an error."""
        keys = ("radial_coeffs", "species_coeffs", "moment_coeffs")
        missing = [key for key in keys if key not in self.fields]
        if missing == ["species_coeffs", "moment_coeffs"] and not self.radial_lines():
            missing.append("radial_coeffs")  # MLIP-3 writes the bare word before training
        if len(missing) == len(keys):
            log.warning("%s: untrained potential, all coefficients are zero", self.source)
            return False
        if missing:
            found = next(key for key in keys if key in self.fields)
            self.fail(found, f"the file holds this, but no {', '.join(missing)}")
        return True

    def symbols(self, species: Sequence[str] | None, *, trained: bool) -> tuple[str, ...]:
        """Return the symbols of the types."""
        count = self.integer("species_count", minimum=1) if trained else None
        if species is None and trained:
            species = self.symbols_of_file()
        if species is None or isinstance(species, str):
            number = "an unknown number of" if count is None else count
            raise InputError(
                f"{self.source}: holds {number} species without names: give a tuple of symbols in "
                "the order of the file's types, e.g. species=('Nb', 'Mo')"
            )
        symbols = tuple(species)
        if len(set(symbols)) != len(symbols) or not symbols:
            raise InputError(f"{self.source}: species {symbols} must be distinct symbols")
        if count is not None and len(symbols) != count:
            raise InputError(
                f"{self.source}: holds {count} species, but {len(symbols)} are named: {symbols}"
            )
        return symbols

    def radial_lines(self) -> list[tuple[int, str]]:
        """Return the numbered lines below 'radial_coeffs'."""
        return self.fields["radial_coeffs"][0].more if "radial_coeffs" in self.fields else []

    def type_numbers(self, count: int, n_radial: int) -> list[int]:
        """Return the numbers that the file gives to its types, from its first `count` pairs."""
        numbers = []
        for line, head in self.radial_lines()[:: n_radial + 1][:count]:
            _, dash, second = head.partition("-")
            if not (dash and second.strip().isdigit()):
                self.fail("radial_coeffs", f"expected a pair of types: '{head[:40]}'", line)
            numbers.append(int(second))
        return numbers

    def symbols_of_file(self) -> tuple[str, ...] | None:
        """Return the symbols if the file numbers its types by the elements, else None."""
        count = self.integer("species_count", minimum=1)
        numbers = self.type_numbers(count, self.integer("radial_funcs_count", minimum=1))
        if not numbers or min(numbers) < 1 or numbers == list(range(1, count + 1)):
            return None  # types counted from 0 or 1
        if max(numbers) >= len(chemical_symbols):
            return None
        return tuple(chemical_symbols[number] for number in numbers)

    def text(self, key: str, default: str) -> str:
        """Return a field as text."""
        if key not in self.fields:
            return default
        field = self.fields[key][0]
        return "\n".join([field.value, *(line for _, line in field.more)])

    def integer(self, key: str, *, minimum: int) -> int:
        """Return a field as an integer."""
        try:
            value = int(self.text(key, ""))
        except ValueError:
            self.fail(key, f"'{self.text(key, '')[:40]}' is not an integer")
        if value < minimum:
            self.fail(key, f"{value} is less than {minimum}")
        return value

    def number(self, key: str, text: str, line: int | None = None) -> float:
        """Return `text`, a part of the field `key`, as a finite number."""
        try:
            value = float(text)
        except ValueError:
            self.fail(key, f"'{text.strip()[:40]}' is not a number", line)
        if not math.isfinite(value):
            self.fail(key, f"{value} is not finite", line)
        return value

    def scaling(self) -> float:
        """Return the product of the scalings at top level and inside the radial basis."""
        return math.prod(
            self.number("scaling", field.value) for field in self.fields.get("scaling", [])
        )

    def interval(self) -> tuple[float, float]:
        """Return min_dist and max_dist."""
        low = self.number("min_dist", self.text("min_dist", ""))
        high = self.number("max_dist", self.text("max_dist", ""))
        if not 0.0 <= low < high:
            self.fail("max_dist", f"0 <= min_dist < max_dist does not hold for {low} and {high} Å")
        return low, high

    def braced(self, key: str, text: str, count: int, line: int | None = None) -> list[float]:
        """Return the `count` numbers of ``{a, b, ...}``."""
        inside = text.strip()
        if not (inside.startswith("{") and inside.endswith("}")):
            self.fail(key, f"expected {count} numbers in braces, found '{inside[:40]}'", line)
        items = inside[1:-1].split(",") if inside[1:-1].strip() else []
        if len(items) != count:
            self.fail(key, f"expected {count} numbers, found {len(items)}", line)
        return [self.number(key, item, line) for item in items]

    def coefficients(self, key: str, count: int, *, trained: bool) -> npt.NDArray[np.float64]:
        """Return a field of `count` numbers, (count,), zeros for an untrained potential."""
        if not trained:
            return np.zeros(count)
        return np.array(self.braced(key, self.text(key, ""), count), dtype=np.float64)

    def rows(self, key: str, count: int) -> npt.NDArray[np.int64]:
        """Return a field ``{{a, b, c, d}, ...}`` as integers, (count, 4)."""
        inside = "".join(self.text(key, "").split())
        if not (inside.startswith("{") and inside.endswith("}")):
            self.fail(key, f"expected {count} rows in braces")
        rows = inside[1:-1].replace("},{", "}\n{").split("\n") if inside[1:-1] else []
        if len(rows) != count:
            self.fail(key, f"expected {count} rows, found {len(rows)}")
        table = np.array([self.braced(key, row, 4) for row in rows]).reshape(count, 4)
        return self.integers(key, table)

    def integers(self, key: str, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return `numbers` of any shape as integers."""
        if np.any(numbers != np.rint(numbers)):
            self.fail(key, "holds numbers that are not integers")
        return numbers.astype(np.int64)

    def radial(
        self, symbols: tuple[str, ...], n_radial: int, *, trained: bool
    ) -> npt.NDArray[np.float64]:
        """Return the radial coefficients, (n_species, n_species, n_radial, radial_size)."""
        size, n_species = self.integer("radial_basis_size", minimum=1), len(symbols)
        result = np.zeros((n_species, n_species, n_radial, size))
        if not trained:
            return result
        lines = self.radial_lines()
        expected = n_species**2 * (n_radial + 1)
        if len(lines) != expected:
            self.fail(
                "radial_coeffs",
                f"{n_species} species and {n_radial} radial functions need {expected} lines, "
                f"found {len(lines)}",
            )
        numbers = self.type_numbers(n_species, n_radial)
        self.check_numbers(numbers, symbols)
        pairs = iter(np.ndindex(n_species, n_species))
        for start, pair in zip(range(0, expected, n_radial + 1), pairs, strict=True):
            number, head = lines[start]
            name = f"{numbers[pair[0]]}-{numbers[pair[1]]}"
            if head != name:
                self.fail("radial_coeffs", f"expected {name}: '{head[:40]}'", number)
            block = lines[start + 1 : start + 1 + n_radial]
            result[pair] = [self.braced("radial_coeffs", row, size, n) for n, row in block]
        return result

    def check_numbers(self, numbers: list[int], symbols: tuple[str, ...]) -> None:
        """Refuse types given twice, and atomic numbers in another order than the symbols."""
        if len(set(numbers)) != len(numbers):
            self.fail("radial_coeffs", f"types must be distinct, found {numbers}")
        elements = [atomic_numbers.get(symbol, 0) for symbol in symbols]
        # Numbers below 1 are types counted from 0, whatever the element "X" of ASE.
        if min(numbers) > 0 and sorted(numbers) == sorted(elements) and numbers != elements:
            found = ", ".join(chemical_symbols[number] for number in numbers)
            self.fail(
                "radial_coeffs",
                f"the file's types are {found}, the species named {', '.join(symbols)}",
            )

    def basic(self, n_radial: int, n_moments: int) -> npt.NDArray[np.int64]:
        """Return the components of the basic moments, (n_basic, 4): mu, powers of x, y, z."""
        key = "alpha_index_basic"
        count = self.integer("alpha_index_basic_count", minimum=1)
        rows = self.rows(key, count)
        if count > n_moments:
            self.fail(key, f"{count} basic moments of {n_moments} moments")
        if rows.min() < 0 or rows[:, 0].max() >= n_radial:
            self.fail(key, f"indices must be 0 or more, radial ones below {n_radial}")
        return rows

    def times(self, n_basic: int, n_moments: int) -> npt.NDArray[np.int64]:
        """Return the products, (n_times, 4), every factor complete when used."""
        key = "alpha_index_times"
        rows = self.rows(key, self.integer("alpha_index_times_count", minimum=0))
        if not len(rows):
            return rows
        factors, targets = rows[:, :2], rows[:, 3]
        if factors.min() < 0 or max(factors.max(), targets.max()) >= n_moments:
            self.fail(key, f"moments must be 0 to {n_moments - 1}")
        if targets.min() < n_basic:
            self.fail(key, f"the product {targets.min()} is one of the {n_basic} basic moments")
        order = np.arange(len(rows))
        first_use = np.full(n_moments, len(rows))
        np.minimum.at(first_use, factors, order[:, None])
        late = order >= first_use[targets]
        if late.any():
            self.fail(key, f"moment {targets[late][0]} is used before its last term is added")
        return rows

    def mapping(self, n_moments: int) -> npt.NDArray[np.int64]:
        """Return the moments that are basis functions, (n_scalars,)."""
        key = "alpha_moment_mapping"
        count = self.integer("alpha_scalar_moments", minimum=1)
        result = self.integers(key, np.array(self.braced(key, self.text(key, ""), count)))
        if result.min() < 0 or result.max() >= n_moments:
            self.fail(key, f"moments must be 0 to {n_moments - 1}")
        return result
