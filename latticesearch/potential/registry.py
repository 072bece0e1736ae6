"""Which kinds of potentials there are: one line for each, and those of other people.

A kind says how a potential is made from parameters and read from its text. Everything else it does
itself; see `latticesearch.potential.protocol`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from latticesearch.lattice import ParentLattice
    from latticesearch.potential.protocol import Potential

KINDS = {
    "mtp": "latticesearch.potential.mtp.kind:KIND",
    "clusters": "latticesearch.potential.clusters.kind:KIND",
}
"""Where each kind stands; it is imported when it is asked for."""


@dataclass(frozen=True)
class Kind:
    """One kind of potential.

    Parameters
    ----------
    name
        As in the campaign file.
    suffix
        Of the files that hold a potential's text.
    make
        ``make(parent, parameters, seed)`` returns the potential before training, or as given.
        Raises InputError for parameters it does not know.
    parse
        ``parse(text, parent)`` reads what the potential's ``text()`` wrote, to the last bit.
        Raises InputError in one line for any other text.
    """

    name: str
    suffix: str
    make: Callable[[ParentLattice, Mapping[str, Any], int], Potential]
    parse: Callable[[str, ParentLattice], Potential]

    def read(self, path: Path, parent: ParentLattice) -> Potential:
        """Return the potential in a file.

        Raises
        ------
        InputError
            The file cannot be read, or holds no potential of this kind for this lattice.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise InputError(f"cannot read a potential from {path}: {reason}") from error
        return self.parse(text, parent)


def kind_of(name: str) -> Kind:
    """Return a kind by its name, or by ``"module:factory"``.

    A factory is called ``factory(species, **parameters)``. It may have a function ``parse(text)``,
    for potentials with a text form, and a ``suffix``; a class has both as class attributes.

    Raises
    ------
    InputError
        There is no such kind, or what is named cannot be imported.
    """
    if name in KINDS:
        kind: Kind = _imported(KINDS[name])
        return kind
    if ":" not in name:
        raise InputError(
            f"potential.kind = {name!r}: there are {', '.join(map(repr, KINDS))}, and "
            '"module:factory" for one of your own'
        )
    return _foreign(name)


def _imported(name: str) -> Any:
    """Return what ``"module:attribute"`` names."""
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # a foreign module may raise anything while it is imported
        raise InputError(
            f"potential.kind = {name!r} cannot be imported: {_in_one_line(error)}"
        ) from error
    return found


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _foreign(name: str) -> Kind:
    """Return the kind of a factory of other people."""
    factory = _imported(name)
    if not callable(factory):
        raise InputError(
            f"potential.kind = {name!r} names {type(factory).__name__}: a class or function is "
            "needed, which is called factory(species, **parameters)"
        )

    def make(parent: ParentLattice, parameters: Mapping[str, Any], seed: int) -> Potential:
        del seed
        try:
            made = factory(parent.species, **parameters)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"potential.kind = {name!r} cannot be made with the parameters "
                f"({', '.join(parameters) or 'none'}): {_in_one_line(error)}"
            ) from error
        return _checked(name, made, parent)

    def parse(text: str, parent: ParentLattice) -> Potential:
        read = getattr(factory, "parse", None)
        if not callable(read):
            raise InputError(
                f"potential.kind = {name!r} has no parse(text): a potential that was written "
                "cannot be read again"
            )
        return _checked(name, read(text), parent)

    suffix = getattr(factory, "suffix", None) or name.rpartition(":")[2].rpartition(".")[2].lower()
    return Kind(name, str(suffix), make, parse)


def _checked(name: str, made: Any, parent: ParentLattice) -> Potential:
    """Return what a factory made if it can be a potential of `parent`."""
    if not callable(getattr(made, "evaluator", None)):
        raise InputError(
            f"potential.kind = {name!r} makes {type(made).__name__}, which has no "
            "evaluator(supercell)"
        )
    missing = [symbol for symbol in parent.species if symbol not in getattr(made, "species", ())]
    if missing:
        raise InputError(
            f"potential.kind = {name!r} makes a potential whose species lack {', '.join(missing)}"
        )
    potential: Potential = made
    return potential
