"""The whole loop from settings to report, on any number of ranks, resumable at any moment.

A stage of a campaign is a pure function of its settings, of what it knows from its start, and of
the oracle's answers. Resuming therefore means running it again: answers and potentials that are on
disk are read instead of computed, so the replay takes the same decisions and arrives where the
interrupted run stopped. Changed settings begin a new stage, which knows all energies so far.
"""

from __future__ import annotations

import contextlib
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
from latticesearch.campaign.known import reference_energies
from latticesearch.campaign.opening import OpeningOptions, open_run
from latticesearch.campaign.settings import Settings, read_settings
from latticesearch.campaign.space import (
    add_known,
    candidate_set,
    candidate_space,
    require_searchable,
)
from latticesearch.campaign.steps import CampaignSteps, warm_up
from latticesearch.errors import OracleUnavailable, Stopped, Waiting
from latticesearch.parallel import (
    SerialComm,
    cpus_of_all,
    first_on_root,
    kept_on_root,
    on_root,
    one_thread,
)
from latticesearch.progress import NoProgress
from latticesearch.stopping import StopRequest
from latticesearch.storage import SCRATCH

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


@dataclass(frozen=True)
class _Machine:
    """What a run has of the machine it runs on.

    Parameters
    ----------
    n_ranks
        Ranks of the run.
    cpus
        Processors that they may use on rank 0's machine.
    wait
        Whether it stays until calculations in a queue are done.
    """

    n_ranks: int
    cpus: frozenset[int]
    wait: bool


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
        retry_failed: bool = False,
        accept_loss: bool = False,
        stop: StopRequest | None = None,
        progress: Progress | None = None,
        wait: bool = True,
    ) -> CampaignResult:
        """Run the campaign, or go on where an interrupted run stopped.

        Settings may have changed since: the run says what is different, and goes on with all the
        energies that it knows. Only the parent lattice and the method have to be the same.

        Parameters
        ----------
        comm
            The ranks that call this together; default this process alone.
        resume
            Demand that there is something to resume. Without it an interrupted run is
            resumed as well, and a new one begins where there is none.
        retry_failed
            Try structures again that were given up.
        accept_loss
            Go on although oracle.db is damaged or incomplete, with what can be read of it.
        stop
            Ends the run before its end when asked; default never.
        progress
            Told about the long steps.
        wait
            Whether to wait for calculations in the queue of a cluster; else the run stops where
            it needs them, and the next call takes up what has been done by then.

        Raises
        ------
        InputError
            The settings cannot be carried out, or the run directory holds energies of another
            method.
        RuntimeError
            The oracle cannot compute anything, or gave no energy for an end member.
        Stopped
            `stop` was asked, or there is something to wait for that is not to be waited for;
            everything computed is on disk, and the same call goes on.
        """
        comm, progress = comm or SerialComm(), progress or NoProgress()
        # One that was not asked yet is false.
        stop = StopRequest() if stop is None else stop
        began = time.monotonic()
        is_compiled = _kernels_are_compiled()
        # Several ranks end together, where they meet next.
        with stop.beginning() if comm.size == 1 else contextlib.nullcontext():
            parent = factories.parent_lattice(self.settings)
            start = factories.start_potential(self.settings, parent)
            space = candidate_space(self.settings, parent)
            require_searchable(space)
        options = OpeningOptions(resume, retry_failed, accept_loss)
        machine = _Machine(comm.size, cpus_of_all(comm), wait)
        keeper = kept_on_root(comm, self._open, parent, machine, options, progress, stop)
        try:
            # Said only now: what is wrong with the settings has to be the only line.
            self._announce(comm, is_compiled=is_compiled)
            if keeper is not None:
                stop.listen(keeper.oracle.interrupt)
            # One process fills the compiler's disk cache; many at once would get in their way.
            first_on_root(comm, lambda: warm_up(start, space))
            on_root(comm, stop.check)
            candidates = candidate_set(space, comm, progress)
            add_known(candidates, on_root(comm, lambda: keeper.known_keys() if keeper else []))
            if comm.rank == 0:
                log.info("%s", _overview(candidates, space))
            steps = CampaignSteps(self.settings, candidates, space, keeper, comm, start, stop)
            steps.run()
            tables, summary = steps.finish(time.monotonic() - began)
            return CampaignResult(self.path, tables.hull, summary)
        except OracleUnavailable as error:
            raise OracleUnavailable(on_root(comm, self._failed, keeper, error)) from error
        except Stopped as stopped:
            raise Stopped(on_root(comm, self._last_words, keeper, stop, stopped)) from stopped
        finally:
            if keeper is not None:
                keeper.close()

    def _failed(self, keeper: Keeper | None, error: OracleUnavailable) -> str:
        """Log why the oracle failed, on root; return the line that says how to go on."""
        assert keeper is not None
        keeper.directory.log_event("stopped", reason=str(error))
        return f"{error}; once it works, to go on: latticesearch run {self.path}"

    def _last_words(self, keeper: Keeper | None, stop: StopRequest, stopped: Stopped) -> str:
        """Log that the run was stopped, on root; return the line that says how to go on."""
        assert keeper is not None
        n = len(keeper.directory.store.results())
        if isinstance(stopped, Waiting):
            keys = list(stopped.keys)
            keeper.directory.log_event("stopped", reason=str(stopped), oracle_calls=n, keys=keys)
            return f"{stopped}: latticesearch ask {self.path}"
        reason = stop.reason or str(stopped)
        keeper.directory.log_event("stopped", reason=reason, oracle_calls=n)
        return (
            f"stopped in order ({reason}), {n} of {self.settings.learning.budget} calculations "
            f"done; to go on: latticesearch run {self.path}"
        )

    def _announce(self, comm: Communicator, *, is_compiled: bool) -> None:
        """Say on rank 0 what takes long the first time, and which settings have no effect."""
        if comm.rank != 0:
            return
        for line in self.settings.without_effect():
            log.warning("%s", line)
        if not is_compiled:
            log.info("compiling, once per machine: half a minute or more")

    def _open(
        self,
        parent: ParentLattice,
        machine: _Machine,
        options: OpeningOptions,
        progress: Progress,
        stop: StopRequest,
    ) -> Keeper:
        """Make the oracle, then the run directory: what can be refused is refused first."""
        stop.check_beginning()
        n_ranks, scratch = machine.n_ranks, self.path / SCRATCH
        oracle = factories.oracle(
            *(self.settings, parent, n_ranks, scratch), cpus=machine.cpus, wait=machine.wait
        )
        references = reference_energies(self.settings, parent)
        rules = factories.answer_rules(self.settings, references)
        suffix = factories.potential_kind(self.settings).suffix
        environment = {"ranks": n_ranks, **versions()}
        phases = factories.phases(self.settings, parent)
        opened = open_run(self.path, self.settings, parent, environment, options)
        for line in phases.summary_lines() if phases or phases.refusals else []:
            log.info("%s", line)
        zero = self.settings.competing.formation_energy
        return Keeper(opened, suffix, oracle, rules, progress, phases, zero)


def versions() -> dict[str, str]:
    """Return the versions of what numbers come from."""
    own = {"latticesearch": __version__, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in LIBRARIES}


def _kernels_are_compiled() -> bool:
    """Tell whether the compiler's disk cache holds anything."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    return folder is None or any(Path(folder).rglob("*.nbi"))


def _overview(candidates: CandidateSet, space: CandidateSpace) -> str:
    """Return the line that says what is about to be searched."""
    system = "-".join(candidates.elements)
    text = f"{system}: {len(candidates)} structures enumerated"
    if space.listed:
        return f"{system}: {len(candidates)} structures, those near the hull of another run"
    if space.supercell is None and space.held:
        text += f" (up to {max(space.held) * space.parent.n_basis} sites)"
    if space.n_explored:
        text += f"; {space.n_explored} larger ones left to the search"
    return text
