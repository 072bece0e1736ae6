"""The paragraph "Computational details" of a run, from its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latticesearch.campaign.known import settings_of_run
from latticesearch.report import computational_details

if TYPE_CHECKING:
    from latticesearch.report import Details
    from latticesearch.storage import RunDirectory


def details_of_run(directory: RunDirectory) -> Details:
    """Return how the energies of a run were computed, with references.

    Raises
    ------
    InputError
        Its settings cannot be read.
    """
    settings = directory.read_settings() | settings_of_run(directory).resolved()
    results = [stored.result for stored in directory.store.results() if stored.status == "done"]
    return computational_details(settings, [r.provenance for r in results if r.provenance])
