"""Campaigns: the whole way from a campaign file to a hull, and everything that knows that file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latticesearch.campaign.run import Campaign, CampaignResult

__all__ = ["Campaign", "CampaignResult"]


def __getattr__(name: str) -> object:
    """Import the campaign when it is first used: verbs that only read settings start in no time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from latticesearch.campaign import run

    return getattr(run, name)
