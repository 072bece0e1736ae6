"""Codes by name, with one vocabulary; each file translates it for one of them."""

from __future__ import annotations

from latticesearch.oracles.presets.abinit import Abinit
from latticesearch.oracles.presets.elk import Elk
from latticesearch.oracles.presets.espresso import Espresso
from latticesearch.oracles.presets.gpaw import Gpaw
from latticesearch.oracles.presets.learned import Chgnet, Mtp, Sevenn
from latticesearch.oracles.presets.preset import NotConverged, Preset
from latticesearch.oracles.presets.vasp import Vasp
from latticesearch.oracles.presets.vocabulary import Element, Hubbard, Wanted

PRESETS: dict[str, Preset] = {
    one.name: one
    for one in (Gpaw(), Vasp(), Espresso(), Abinit(), Elk(), Chgnet(), Sevenn(), Mtp())
}
"""All presets, by the name that a campaign file gives them."""

__all__ = ["PRESETS", "Element", "Hubbard", "NotConverged", "Preset", "Wanted"]
