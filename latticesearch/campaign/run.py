"""The whole loop from settings to report, on any number of ranks, resumable at any moment.

A campaign is a pure function of its settings and the oracle's answers. Resuming therefore means
running it again: answers and potentials that are on disk are read instead of computed, so the
replay takes the same decisions and arrives where the interrupted run stopped.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch import __version__
from latticesearch.campaign import factories
from latticesearch.campaign.keeper import Keeper
from latticesearch.campaign.settings import Settings, read_settings
from latticesearch.campaign.space import candidate_set, candidate_space, require_searchable
from latticesearch.campaign.steps import CampaignSteps, warm_up
from latticesearch.parallel import SerialComm, first_on_root, kept_on_root, one_thread
from latticesearch.progress import NoProgress

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from latticesearch.campaign.space import CandidateSpace
    from latticesearch.lattice import ParentLattice
    from latticesearch.learning import CandidateSet
    from latticesearch.parallel import Communicator
    from latticesearch.progress import Progress

log = logging.getLogger(__name__)

LIBRARIES = ("numpy", "scipy", "numba", "ase", "spglib")
"""Packages whose versions settings.toml records, since numbers come from them."""


@dataclass(frozen=True, eq=False)
class CampaignResult:
    """What a campaign has found.

    Parameters
    ----------
    path
        The run directory.
    hull
        Stable and nearly stable structures, the columns of hull.csv.
    summary
        Counts, times and file names, as printed at the end.
    """

    path: Path
    hull: pd.DataFrame
    summary: dict[str, Any]


class Campaign:
    """A campaign: settings, and everything they name, checked and ready to run.

    Parameters
    ----------
    settings
        The checked campaign file.
    output
        Run directory; default that of the settings, else runs/NAME in the current folder.
    """

    def __init__(self, settings: Settings, output: Path | None = None) -> None:
        self.settings = settings
        self.path = output or settings.campaign.output or Path("runs") / settings.campaign.name

    @classmethod
    def from_toml(
        cls, path: str | Path, overrides: Iterable[str] = (), output: str | Path | None = None
    ) -> Campaign:
        """Read a campaign file.

        Parameters
        ----------
        path
            The TOML file.
        overrides
            Texts ``section.key=value`` that replace values of the file.
        output
            Run directory, instead of the file's.

        Raises
        ------
        InputError
            The file is missing, or something in it is unknown or contradictory.
        """
        settings = read_settings(Path(path), overrides)
        return cls(settings, None if output is None else Path(output))

    @one_thread()
    def run(
        self,
        comm: Communicator | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> CampaignResult:
        """Run the campaign, or go on where an interrupted run stopped.

        Parameters
        ----------
        comm
            The ranks that call this together; default this process alone.
        resume
            Demand that there is something to resume. Without it an interrupted run is
            resumed as well, and a new one begins where there is none.
        progress
            Told about the long steps.

        Raises
        ------
        InputError
            The settings cannot be carried out, or the run directory holds another campaign.
        RuntimeError
            The oracle gave no energy for an end member.
        """
        comm, progress = comm or SerialComm(), progress or NoProgress()
        began = time.monotonic()
        is_compiled = _kernels_are_compiled()
        parent = factories.parent_lattice(self.settings)
        start = factories.start_potential(self.settings, parent)
        space = candidate_space(self.settings, parent)
        require_searchable(space)
        keeper = kept_on_root(comm, self._open, parent, comm.size, resume=resume, progress=progress)
        try:
            # Said only now: what is wrong with the settings has to be the only line.
            self._announce(comm, is_compiled=is_compiled)
            # One process fills the compiler's disk cache; many at once would get in their way.
            first_on_root(comm, lambda: warm_up(start, space))
            candidates = candidate_set(space, comm, progress)
            if comm.rank == 0:
                log.info("%s", _overview(candidates, space))
            steps = CampaignSteps(self.settings, candidates, space, keeper, comm, start)
            steps.run()
            tables, summary = steps.finish(time.monotonic() - began)
            return CampaignResult(self.path, tables.hull, summary)
        finally:
            if keeper is not None:
                keeper.close()

    def _announce(self, comm: Communicator, *, is_compiled: bool) -> None:
        """Say on rank 0 what takes long the first time, and which settings have no effect."""
        if comm.rank != 0:
            return
        for line in self.settings.without_effect():
            log.warning("%s", line)
        if not is_compiled:
            log.info("compiling, as the first run on a machine has to")

    def _open(
        self, parent: ParentLattice, n_ranks: int, *, resume: bool, progress: Progress
    ) -> Keeper:
        """Make the oracle, then the run directory: what can be refused is refused first."""
        oracle = factories.oracle(self.settings, parent, n_ranks)
        rules = factories.answer_rules(self.settings)
        suffix = factories.potential_kind(self.settings).suffix
        record = self._record(n_ranks)
        return Keeper.open(self.path, record, suffix, oracle, rules, progress, resume=resume)

    def _record(self, n_ranks: int) -> dict[str, Any]:
        """Return what settings.toml keeps: all values, and what else a rerun would need."""
        versions = {"latticesearch": __version__, "python": platform.python_version()}
        versions |= {name: metadata.version(name) for name in LIBRARIES}
        return {**self.settings.resolved(), "environment": {"ranks": n_ranks, **versions}}


def _kernels_are_compiled() -> bool:
    """Tell whether the compiler's disk cache holds anything."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    return folder is None or any(Path(folder).rglob("*.nbi"))


def _overview(candidates: CandidateSet, space: CandidateSpace) -> str:
    """Return the line that says what is about to be searched."""
    system = "-".join(candidates.elements)
    text = f"{system}: {len(candidates)} structures enumerated"
    if space.supercell is None and space.held:
        text += f" (up to {max(space.held) * space.parent.n_basis} sites)"
    if space.n_explored:
        text += f"; {space.n_explored} larger ones left to the search"
    return text
