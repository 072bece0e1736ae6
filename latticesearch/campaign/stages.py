"""What may change between two calls of a run, and what a change begins.

A run is a sequence of stages. Within a stage nothing changes, so it can be replayed: after an
interruption the same decisions are taken again, and what they ask for is read from the database.
A stage ends where a setting, the known energies or the program's version change, or where failed
structures are to be tried again. The next one knows, from its start, all that is in the database.
So energies outlive settings, and unchanged settings give the same result however often a run was
interrupted.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.settings import RECORDED, differences
from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latticesearch.oracles import Method

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What a stage begins with.

    Parameters
    ----------
    number
        Counted from 1.
    known_rows
        Rows of oracle.db that were there: known from the start, the later ones only once the
        stage asks for them.
    first_round
        Number of its first round.
    forgiven_rows
        Failures in rows up to this one count no more.
    known_digest
        Of the energies that others have computed; empty without any.
    """

    number: int = 1
    known_rows: int = 0
    first_round: int = 0
    forgiven_rows: int = 0
    known_digest: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Stage | None:
        """Return the stage that a settings.toml tells of; None in those of version 0.1."""
        return cls(**record["stage"]) if "stage" in record else None

    def following(self, n_rows: int, first_round: int, known_digest: str) -> Stage:
        """Return the next stage, which knows `n_rows` rows from its start."""
        return replace(
            self,
            number=self.number + 1,
            known_rows=n_rows,
            first_round=first_round,
            known_digest=known_digest,
        )

    def record(self) -> dict[str, Any]:
        """Return it as settings.toml keeps it."""
        return asdict(self)


def require_same_method(old: Method, new: Method, place: str) -> None:
    """Refuse to mix energies of two methods.

    Raises
    ------
    InputError
        The methods differ; the message names the first difference and a way out.
    """
    if not (found := old.differences(new)):
        return
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    way = "choose another directory with --output"
    if all(one.startswith(("lattice.species", "lattice.allowed")) for one in found):
        # The same sites and the same calculator: the new campaign can know the old energies.
        way += f", and take over what fits with --reuse {place}"
    raise InputError(f"{place} holds energies of another method: {found[0]}{more}; {way}")


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line for everything that differs between two records and may change a decision.

    Parameters
    ----------
    old, new
        What settings.toml holds, ``environment`` included.
    """
    settings = [{k: v for k, v in r.items() if k not in RECORDED} for r in (old, new)]
    found = differences(settings[0], settings[1])
    versions = [str(r.get("environment", {}).get("latticesearch", "unknown")) for r in (old, new)]
    if versions[0] != versions[1]:
        found.append(f"version of latticesearch: {versions[0]} -> {versions[1]}")
    return found


def next_round(events: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the first round that no event tells of."""
    return 1 + max((int(e["round"]) for e in events if e.get("event") == "round"), default=-1)
