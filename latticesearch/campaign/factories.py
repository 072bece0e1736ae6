"""From settings to objects: the only code, beside the campaign, that knows the campaign file.

What only a run needs is imported where it is made: counting must not wait for it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.campaign import volume
from latticesearch.campaign.settings import AUTO, MTP, MTP_KEYS, PRESETS, VOCABULARY
from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ase import Atoms

    from latticesearch.campaign.answers import AnswerRules
    from latticesearch.campaign.competing import CompetingPhases
    from latticesearch.campaign.settings import OracleSettings, Settings
    from latticesearch.lattice import Configuration
    from latticesearch.learning import LearningOptions
    from latticesearch.oracles import AseOracle, Oracle
    from latticesearch.oracles.parallel_codes import Parallel
    from latticesearch.oracles.presets import Wanted
    from latticesearch.oracles.queue import Queue
    from latticesearch.potential import Kind, Potential

log = logging.getLogger(__name__)

TIMEOUT = 600.0
"""Seconds that a calculation may take by default where it is no DFT."""


def parent_lattice(settings: Settings) -> ParentLattice:
    """Return the parent lattice of a campaign."""
    lattice = settings.lattice
    allowed = lattice.species or lattice.sublattices
    assert allowed is not None  # the settings demand one of the two
    if lattice.file is not None:
        if isinstance(allowed, list) and isinstance(allowed[0], list):
            raise InputError(
                'lattice.sublattices: with a file write a table, e.g. {Ti = ["Ti", "Hf"]}'
            )
        return ParentLattice.from_file(lattice.file, allowed)
    if isinstance(allowed, dict):
        raise InputError(
            'lattice.sublattices: with a prototype write a list per sublattice, e.g. [["Ti"], ...]'
        )
    assert lattice.prototype is not None
    assert lattice.a is not None
    a = volume.mean_length(lattice.a) if isinstance(lattice.a, dict) else lattice.a
    return ParentLattice.from_prototype(lattice.prototype, a, allowed, c=lattice.c)


def start_of(settings: Settings) -> Callable[[Configuration], Atoms]:
    """Return what makes the structure that a calculation starts from, out of a configuration."""
    lengths = settings.lattice.a
    if not isinstance(lengths, dict):
        return lambda configuration: configuration.to_atoms()
    return volume.MeanVolume(lengths).start


def potential_kind(settings: Settings) -> Kind:
    """Return the kind of potential: how it is made, and read from a text."""
    from latticesearch.potential import kind_of

    return kind_of(settings.potential.model)


def start_potential(settings: Settings, parent: ParentLattice) -> Potential:
    """Return the potential before the first fit: that of the settings' file, or a fresh one."""
    kind, chosen = potential_kind(settings), settings.potential
    if chosen.file is not None and chosen.model != MTP:
        return kind.read(chosen.file, parent)
    return kind.make(parent, potential_parameters(settings), settings.campaign.seed)


def potential_parameters(settings: Settings) -> dict[str, Any]:
    """Return what the potential is made with."""
    chosen = settings.potential
    if chosen.model != MTP:
        return chosen.parameters
    return chosen.model_dump(include={*MTP_KEYS, "file"}, exclude_none=True)


def oracle(
    settings: Settings,
    parent: ParentLattice,
    n_ranks: int,
    scratch: Path | None = None,
    *,
    cpus: Iterable[int] = (),
    wait: bool = True,
) -> Oracle:
    """Return the oracle; it refuses species it cannot compute.

    Parameters
    ----------
    settings, parent
        The campaign.
    n_ranks
        Ranks of the run, which leave their cores to calculations.
    scratch
        Where it works.
    cpus
        Processors that this run was given on this machine.
    wait
        Whether to wait for calculations that are in a queue.
    """
    from latticesearch.oracles import RecordedOracle
    from latticesearch.oracles.by_hand import ByHandOracle

    source = settings.oracle
    result: Oracle
    if source.queue is None and not wait:
        raise InputError("--no-wait belongs to [oracle.queue]: without one nobody else computes")
    if source.kind == "recorded":
        assert source.file is not None
        result = RecordedOracle(source.file, parent, select=source.select)
    elif source.is_by_hand:
        result = ByHandOracle(source.kind, computing_oracle(settings))
    else:
        computing = computing_oracle(settings, n_ranks, scratch, cpus=cpus, wait=wait)
        assert computing is not None
        result = computing
    result.check_species(parent.species)
    if source.kind in PRESETS:
        _remark(source, parent)
    unknown = sorted(set(source.references) - set(parent.species))
    if unknown:
        raise InputError(
            f"oracle.references: {unknown[0]} is not among the species {', '.join(parent.species)}"
        )
    return result


def computing_oracle(
    settings: Settings,
    n_ranks: int = 1,
    scratch: Path | None = None,
    *,
    cpus: Iterable[int] = (),
    wait: bool = True,
) -> AseOracle | None:
    """Return the oracle that computes here or in a queue; None where only others can.

    Its arguments are those of `oracle`.
    """
    from latticesearch.oracles import AseOracle

    source = settings.oracle
    if source.kind in {"manual", "recorded"}:
        return None
    preset = wanted(source) if source.kind in PRESETS else None
    return AseOracle(
        source.kind if preset else source.calculator or "emt",
        parameters={} if preset else source.parameters,
        preset=preset,
        relax_cell=source.relax_cell,
        relax_ions=source.relax_ions,
        fmax=source.fmax,
        max_steps=source.max_steps,
        timeout=_timeout(source),
        workers=(workers := source.workers or max(1, n_ranks // source.cores)),
        scratch=scratch,
        grace=source.grace,
        queue=_queue(source, wait=wait),
        parallel=_parallel(source),
        keep=source.keep_calculator,
        cpus=_cpus(set(cpus), workers * source.cores),
    )


def _queue(source: OracleSettings, *, wait: bool) -> Queue | None:
    """Return how the queue of a cluster is used, None where calculations run here."""
    from latticesearch.amounts import megabytes, seconds
    from latticesearch.oracles.queue import ElementResources, Queue, Resources

    chosen = source.queue
    if chosen is None:
        return None
    special = {
        symbol: ElementResources(
            time=seconds(one.time) if one.time else None,
            cores=one.cores,
            memory=megabytes(one.memory) if one.memory else None,
            partition=one.partition,
        )
        for symbol, one in chosen.elements.items()
    }
    resources = Resources(
        time=seconds(chosen.time),
        cores=chosen.cores or source.cores,
        memory=megabytes(chosen.memory) if chosen.memory else None,
        partition=chosen.partition,
        account=chosen.account,
        prologue=(*(f"module load {name}" for name in chosen.modules), *chosen.prologue),
        options=tuple(chosen.options),
    )
    return Queue(resources, special, chosen.jobs, chosen.array, chosen.interval, wait)


def _parallel(source: OracleSettings) -> Parallel:
    """Return on how many cores a calculation runs here."""
    from latticesearch.oracles.parallel_codes import Parallel
    from latticesearch.oracles.presets import PRESETS as KNOWN

    if source.launcher and source.kind in KNOWN and KNOWN[source.kind].keeps:
        raise InputError(f"oracle.launcher: {source.kind} has no ranks; cores are its threads")
    return Parallel(source.cores, source.launcher)


def _cpus(given: set[int], n_wanted: int) -> set[int]:
    """Return the processors that workers may use.

    Those of all ranks together: each of them may be bound to one. Where the user wants more than
    the launcher has bound them to, any that the operating system allows.
    """
    if len(given) >= n_wanted:
        return given
    return set(range(os.cpu_count() or 1))


def wanted(source: OracleSettings) -> Wanted:
    """Return what a preset is told.

    Raises
    ------
    InputError
        The code has nothing that a key could be translated to.
    """
    from latticesearch.oracles.presets import PRESETS as KNOWN
    from latticesearch.oracles.presets import Element, Hubbard, Wanted

    preset = KNOWN[source.kind]
    keys = {*VOCABULARY, "parameters", "file"}
    for key in sorted(key for key in keys - preset.takes if getattr(source, key)):
        raise InputError(f'oracle.{key} means nothing to kind = "{source.kind}"; leave it out')
    said = source.model_dump(include=keys, exclude_none=True)
    smearing = said.pop("smearing", {})
    if isinstance(smearing, dict):
        said |= {"smearing" if k == "kind" else k: v for k, v in smearing.items()}
    else:
        said["width"] = smearing
    for place in ("datasets", "file"):
        if place in said:
            said[place] = str(said[place])
    elements = {}
    for symbol, one in said.pop("elements").items():
        hubbard = Hubbard(**one.pop("hubbard")) if "hubbard" in one else None
        elements[symbol] = Element(**one, hubbard=hubbard)
    return Wanted(**said, elements=elements)


def _remark(source: OracleSettings, parent: ParentLattice) -> None:
    """Log what should be known of a preset before a campaign."""
    from latticesearch.oracles.presets import PRESETS as KNOWN

    told, relaxes = wanted(source), source.relax_cell
    elements = [symbol for symbol in parent.species if symbol != "X"]
    # Who says that there are no moments has thought of them.
    quiet = source.spin is not None
    for line in KNOWN[source.kind].remarks(told, [] if quiet else elements, relax_cell=relaxes):
        log.warning("%s", line)


def _timeout(source: OracleSettings) -> float | None:
    """Return the seconds that a calculation may take; DFT has no limit unless one is set."""
    from latticesearch.oracles.presets import PRESETS as KNOWN

    is_costly = source.kind in KNOWN and KNOWN[source.kind].is_costly
    # A queue has a limit of its own.
    if source.timeout is not None or is_costly or source.queue is not None:
        return source.timeout
    return TIMEOUT


def phases(settings: Settings, parent: ParentLattice) -> CompetingPhases:
    """Return the competing phases that the settings name."""
    from latticesearch.campaign.competing import competing_phases
    from latticesearch.lattice import VACANCY

    chosen = settings.competing
    elements = [symbol for symbol in parent.species if symbol != VACANCY]
    rows = [phase.model_dump() for phase in chosen.phases]
    return competing_phases(elements, chosen.files, rows, energy_key=chosen.energy_key)


def answer_rules(settings: Settings, references: Mapping[str, float] | None = None) -> AnswerRules:
    """Return how the oracle's answers are judged; `references` by key, eV/atom."""
    from latticesearch.campaign.answers import AnswerRules

    return AnswerRules(settings.oracle.attempts, references, start_of(settings))


def learning_options(settings: Settings) -> LearningOptions:
    """Return the limits and tolerances of active learning."""
    from latticesearch.learning import LearningOptions

    chosen = settings.learning
    return LearningOptions(
        budget=chosen.budget,
        per_round=chosen.per_round,
        tolerance=chosen.tolerance,
        max_rounds=chosen.max_rounds,
        chooses_model=settings.potential.kind == AUTO,
        seed=settings.campaign.seed,
    )


def search_matrix(settings: Settings, parent: ParentLattice) -> list[list[int]] | None:
    """Return a campaign's supercell in units of the primitive cell, (3, 3); None without one."""
    if settings.candidates.supercell is None:
        return None
    matrix = np.array(settings.candidates.supercell)
    if matrix.ndim == 1:
        matrix = np.diag(matrix)
    if settings.candidates.cell == "conventional":
        matrix = matrix @ parent.conventional
    result: list[list[int]] = matrix.tolist()
    return result
