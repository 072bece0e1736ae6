"""The campaign file: what may stand in it, checked before anything is computed or written.

Only `latticesearch.campaign` (with its builders) and the command line read these models; all
other modules take plain arguments.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from latticesearch.amounts import megabytes, seconds
from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic_core import ErrorDetails

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Symbol = Annotated[str, Field(pattern=r"^[A-Z][a-z]?$")]
Vector = Annotated[list[int], Field(min_length=3, max_length=3)]


class _Section(BaseModel):
    """A table of the file: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CampaignSettings(_Section):
    """Name, seed and place of the campaign."""

    name: str = Field("campaign", pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = Field(0, ge=0)
    output: Path | None = Field(None, description="run directory; default runs/NAME")


class LatticeSettings(_Section):
    """The parent lattice: a prototype by name or a structure file."""

    prototype: str | None = None
    file: Path | None = None
    a: Positive | dict[Symbol, Positive] | None = Field(
        None,
        description="lattice parameter of the conventional cell, Å; a table per element: each "
        "structure starts, and stays if it is not relaxed, at the mean volume of its atoms",
    )
    c: Positive | None = Field(None, description="second lattice parameter (hcp), Å")
    species: list[Symbol] | None = Field(None, min_length=1)
    sublattices: list[list[Symbol]] | dict[str, list[Symbol]] | None = Field(
        None, description="allowed species: a list per sublattice (prototype), a table (file)"
    )

    @model_validator(mode="after")
    def _one_source(self) -> LatticeSettings:
        if (self.prototype is None) == (self.file is None):
            message = 'give either prototype = "fcc" (or another name) or file = "parent.cif"'
            raise ValueError(message)
        if self.prototype is not None and self.a is None:
            message = "a prototype needs its lattice parameter: a = 3.9 (Å)"
            raise ValueError(message)
        if self.file is not None and (self.a is not None or self.c is not None):
            message = "a and c belong to a prototype; a file brings its own cell"
            raise ValueError(message)
        if (self.species is None) == (self.sublattices is None):
            message = "give either species = [...] (all sites) or sublattices = [[...], ...]"
            raise ValueError(message)
        self._check_lengths()
        return self

    def _check_lengths(self) -> None:
        """See that a table of lattice parameters names all that share a site, or none of them."""
        if not isinstance(self.a, dict):
            return
        groups = [self.species] if self.species is not None else list(self.sublattices or [])
        said = set(self.a)
        for group in groups:
            here = [symbol for symbol in group or () if symbol != "X"]
            missing = [symbol for symbol in here if symbol not in said]
            if missing and (len(missing) < len(here) or len(groups) == 1):
                message = f"a = {{ ... }} gives no lattice parameter of {missing[0]}"
                raise ValueError(message)
        if not said:
            message = "a = { } names no element"
            raise ValueError(message)


Composition = dict[Symbol, Fraction | tuple[Fraction, Fraction]]


RESTRICTING = (
    *("min_sites", "cell", "composition", "sublattices", "complete", "exchange", "layer_axis"),
    "superperiodic",
)
"""Keys of the candidates that say which labelings are enumerated."""


class CandidateSettings(_Section):
    """Which structures compete."""

    min_sites: Count = Field(1, description="only supercells of at least this many sites")
    max_sites: Count | None = Field(None, description="all supercells up to this many sites")
    supercell: Vector | list[Vector] | None = Field(
        None, description="this supercell only: three multiples or a 3x3 integer matrix"
    )
    from_run: Path | None = Field(
        None, description="the structures near the hull of this finished run, and no others"
    )
    within: Positive = Field(
        0.010, description="with from_run: up to this far above its hull, eV/atom"
    )
    cell: Literal["primitive", "conventional"] = Field(
        "primitive", description="what the supercell multiplies"
    )
    composition: Composition = Field(default_factory=dict)
    sublattices: list[Composition] = Field(
        default_factory=list,
        description="fractions of the sites of each sublattice, in the order of the parent's",
    )
    complete: bool = Field(default=False, description="only structures that hold every species")
    exchange: bool = Field(
        default=False, description="count and enumerate exchanged species as one structure"
    )
    layer_axis: int | None = Field(
        None, ge=0, le=2, description="lattice vector along which nothing is stacked"
    )
    superperiodic: bool | None = Field(
        None,
        description="structures with a smaller cell, too; default for a supercell only",
    )
    exhaustive_limit: int = Field(
        20_000, ge=0, description="most structures held as candidates; the rest is searched"
    )
    near_hull: Positive = Field(
        0.050, description="found candidates up to this far above the hull, eV/atom"
    )

    @model_validator(mode="after")
    def _one_space(self) -> CandidateSettings:
        fields = type(self).model_fields
        spaces = (self.max_sites, self.supercell, self.from_run)
        if sum(one is not None for one in spaces) != 1:
            message = 'give either max_sites = 6, supercell = [2, 2, 2] or from_run = "runs/OLD"'
            raise ValueError(message)
        usual = {key: one.get_default(call_default_factory=True) for key, one in fields.items()}
        # What a run keeps of its settings names the defaults as well.
        meant = [key for key in RESTRICTING if getattr(self, key) != usual[key]]
        if self.from_run is not None and meant:
            message = f"{meant[0]} does not go with from_run, whose structures are listed"
            raise ValueError(message)
        if self.from_run is None and self.within != usual["within"]:
            message = 'within belongs to from_run = "runs/OLD"'
            raise ValueError(message)
        if self.supercell is not None and len(self.supercell) != 3:
            message = f"supercell has {len(self.supercell)} rows; three are needed"
            raise ValueError(message)
        if self.max_sites is not None and self.min_sites > self.max_sites:
            message = f"min_sites = {self.min_sites} is larger than max_sites = {self.max_sites}"
            raise ValueError(message)
        if self.supercell is not None and (self.min_sites > 1 or self.layer_axis is not None):
            message = "min_sites and layer_axis choose among supercells; leave them out with one"
            raise ValueError(message)
        for composition in (self.composition, *self.sublattices):
            for element, bounds in composition.items():
                if isinstance(bounds, tuple) and bounds[0] > bounds[1]:
                    message = f"composition of {element}: {bounds[0]} is larger than {bounds[1]}"
                    raise ValueError(message)
        return self


class SearchSettings(_Section):
    """The search of every round, where the candidates that are held from the beginning end."""

    keep: Count = Field(3, description="candidates kept per composition")
    budget: Count | None = Field(None, description="energy evaluations per round")
    beam_width: Count = Field(8, description="without effect")
    supercells: Count = Field(
        8, description="shapes per size where these are too many to enumerate"
    )


MTP = "mtp"
AUTO = "auto"
"""A moment tensor potential, by which the search goes where its left-out error is the smaller."""
MTP_KEYS = ("level", "cutoff", "min_dist", "radial_size")
"""Keys of the section on the potential that describe a moment tensor potential."""


class PotentialSettings(_Section):
    """The potential: a moment tensor potential, a cluster expansion, or one of other people's."""

    kind: str = Field(
        AUTO, description='"auto", "mtp", "clusters", or "module:factory" of your own'
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="of any kind but mtp: what it is made with"
    )
    level: Annotated[int, Field(ge=2, le=28)] = 8
    cutoff: Positive = Field(5.0, description="Å")
    min_dist: Positive | None = Field(None, description="Å; default from the parent lattice")
    radial_size: Annotated[int, Field(ge=2, le=32)] | None = None
    file: Path | None = Field(
        None, description="potential to start from, its types in the order of the species"
    )

    @property
    def model(self) -> str:
        """The kind of potential that is trained."""
        return MTP if self.kind == AUTO else self.kind

    @model_validator(mode="after")
    def _one_kind(self) -> PotentialSettings:
        if self.model == MTP and self.parameters:
            message = f"parameters belong to other kinds; {MTP} has {', '.join(MTP_KEYS)}"
            raise ValueError(message)
        foreign = [key for key in MTP_KEYS if key in self.model_fields_set]
        if self.model != MTP and foreign:
            message = (
                f'{foreign[0]} belongs to kind = "{MTP}"; what "{self.kind}" is made with '
                "stands in [potential.parameters]"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _interval(self) -> PotentialSettings:
        if self.min_dist is not None and self.min_dist >= self.cutoff:
            message = f"min_dist {self.min_dist} is not below the cutoff {self.cutoff}"
            raise ValueError(message)
        return self


PRESETS = ("gpaw", "vasp", "espresso", "abinit", "elk", "chgnet", "sevenn", "mtp")
"""Kinds of oracles that a preset translates for."""
VOCABULARY = (
    *("xc", "cutoff", "kspacing", "smearing", "spin", "dispersion", "elements", "datasets"),
    "command",
)
"""Keys of the section on the oracle that presets understand, each its own choice of them."""


class SmearingSettings(_Section):
    """How occupations are smeared."""

    kind: Literal["methfessel-paxton", "marzari-vanderbilt", "fermi-dirac", "gaussian"] = (
        "methfessel-paxton"
    )
    width: Positive = Field(0.2, description="eV")


class HubbardSettings(_Section):
    """Correction of localised orbitals."""

    u: Positive = Field(description="eV")
    j: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(0.0, description="eV")
    orbital: Literal["p", "d", "f"] = "d"


class ElementSettings(_Section):
    """What is said of one element."""

    kspacing: Positive | None = Field(
        None, description="1/Å, for structures of it alone; default three quarters of the others'"
    )
    grid: tuple[Count, Count, Count] | None = Field(None, description="their k-points instead")
    moment: float | None = Field(
        None, allow_inf_nan=False, description="Bohr magnetons per atom at the start"
    )
    dataset: str | None = Field(None, description="pseudopotential or PAW data, by name")
    hubbard: HubbardSettings | None = None


def _checked_time(text: str) -> str:
    return _checked(text, seconds)


def _checked_memory(text: str) -> str:
    return _checked(text, megabytes)


def _checked(text: str, read: Callable[[str], float]) -> str:
    """Return a text that can be read."""
    try:
        read(text)
    except InputError as error:
        raise ValueError(str(error)) from error
    return text


Duration = Annotated[str, AfterValidator(_checked_time)]
Memory = Annotated[str, AfterValidator(_checked_memory)]


class ElementQueueSettings(_Section):
    """What calculations with an element take beyond the others."""

    time: Duration | None = None
    cores: Count | None = None
    memory: Memory | None = None
    partition: str | None = None


class QueueSettings(_Section):
    """The queue of a cluster."""

    kind: Literal["slurm"] = "slurm"
    time: Duration = Field(description='longest time of a calculation, such as "24h"')
    cores: Count | None = Field(None, description="of a calculation; default oracle.cores")
    memory: Memory | None = Field(None, description='of a node, such as "16G"')
    partition: str | None = None
    account: str | None = None
    modules: list[str] = Field(default_factory=list, description="loaded before a calculation")
    prologue: list[str] = Field(
        default_factory=list, description="lines of the shell before a calculation"
    )
    options: list[str] = Field(
        default_factory=list, description='more options of sbatch, such as "--qos=long"'
    )
    jobs: Count | None = Field(
        None, description="calculations in the queue at most, waiting ones included"
    )
    array: Count = Field(100, description="calculations in one array job at most")
    interval: Positive = Field(30.0, description="seconds between two looks at the queue")
    elements: dict[Symbol, ElementQueueSettings] = Field(
        default_factory=dict, description="what structures with an element need: the largest counts"
    )

    @model_validator(mode="after")
    def _one_line_each(self) -> QueueSettings:
        wrong = [one for one in self.options if not one.startswith("-") or "\n" in one]
        if wrong:
            message = f'options: {wrong[0]!r} is none; write them as in "--qos=long"'
            raise ValueError(message)
        return self


class OracleSettings(_Section):
    """The source of true energies."""

    kind: Literal[
        "emt",
        "ase",
        "recorded",
        "manual",
        "gpaw",
        "vasp",
        "espresso",
        "abinit",
        "elk",
        "chgnet",
        "sevenn",
        "mtp",
    ]
    references: dict[Symbol, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict,
        description="known energies of the pure elements on this lattice, eV/atom",
    )
    max_formation_energy: Positive = Field(
        3.0, description="larger formation energies (eV/atom, either sign) are pointed out"
    )
    attempts: Count = Field(2, description="calculations of a structure before it is given up")
    by_hand: bool = Field(
        default=False,
        description="nothing is computed here: ask writes folders, tell reads what came of them",
    )
    grace: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        20.0, description="seconds that running calculations get when the run has to stop"
    )
    # emt, ase
    calculator: str | None = Field(
        None, description="name of an ASE calculator, or module:factory of your own"
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the calculator"
    )
    keep_calculator: bool = Field(
        default=False, description="one for all structures of a worker; it must allow that"
    )
    relax_cell: bool = True
    relax_ions: bool = True
    fmax: Positive = Field(0.01, description="eV/Å")
    max_steps: Count = 300
    timeout: Positive | None = Field(
        None, description="seconds per calculation; default 600, none for DFT codes"
    )
    workers: Count | None = Field(
        None, description="calculations at a time; default one per rank, or per cores of them"
    )
    cores: Count = Field(1, description="of a calculation")
    launcher: str | None = Field(
        None, description='what starts ranks; default "mpirun -n {cores}" where cores > 1'
    )
    queue: QueueSettings | None = None
    # presets
    xc: str | None = Field(None, description="functional; default PBE")
    cutoff: Positive | None = Field(None, description="of the plane waves, eV")
    kspacing: Positive | None = Field(
        None, description="largest distance of k-points, 1/Å with the factor 2π"
    )
    smearing: Positive | SmearingSettings | None = Field(
        None, description="width, eV, or kind and width; default Methfessel-Paxton, 0.2"
    )
    spin: Literal["none", "ferromagnetic", "antiferromagnetic"] | None = None
    dispersion: str | None = None
    elements: dict[Symbol, ElementSettings] = Field(default_factory=dict)
    datasets: Path | None = Field(None, description="folder of pseudopotentials or PAW data")
    command: str | None = Field(None, description="what starts the program")
    # recorded, mtp
    file: Path | None = Field(None, description="extxyz file or ASE database; a .mtp file")
    select: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @property
    def is_by_hand(self) -> bool:
        """Whether energies come by `ask` and `tell` alone."""
        return self.by_hand or self.kind == "manual"

    @model_validator(mode="after")
    def _complete(self) -> OracleSettings:
        if self.kind == "recorded" and self.file is None:
            message = 'kind = "recorded" needs file = "energies.extxyz"'
            raise ValueError(message)
        if (self.kind == "ase") != (self.calculator is not None):
            message = 'kind = "ase" needs calculator = "name" or "module:factory"; others none'
            raise ValueError(message)
        if self.kind not in {"recorded", "mtp"} and self.file is not None:
            message = f'file belongs to kind = "recorded" and "mtp", not to "{self.kind}"'
            raise ValueError(message)
        if self.kind != "ase" and self.keep_calculator:
            message = f'keep_calculator belongs to kind = "ase"; "{self.kind}" decides by itself'
            raise ValueError(message)
        if self.kind == "recorded" and self.queue is not None:
            message = 'queue: nothing is computed with kind = "recorded"; leave [oracle.queue] out'
            raise ValueError(message)
        if self.kind != "recorded" and self.select:
            message = f'select belongs to kind = "recorded", not to "{self.kind}"'
            raise ValueError(message)
        if self.kind == "recorded" and self.by_hand:
            message = 'by_hand: a table is not computed; leave it out with kind = "recorded"'
            raise ValueError(message)
        said = [key for key in VOCABULARY if getattr(self, key)]
        if self.kind not in PRESETS and said:
            message = (
                f'{said[0]} belongs to presets such as kind = "gpaw"; for "{self.kind}" it stands '
                "in parameters, in the calculator's own words"
            )
            raise ValueError(message)
        return self


class LearningSettings(_Section):
    """How many oracle calculations, and which."""

    budget: Count = Field(150, description="oracle calculations, all attempts counted")
    per_round: Count = Field(4, description="structures computed at once, between two looks")
    tolerance: Positive = Field(0.001, description="distance of hulls that matters, eV/atom")
    max_rounds: Count | None = Field(None, description="default as many as the budget takes")
    initial: Count = Field(30, description="without effect")
    near_hull: Positive = Field(0.010, description="without effect")
    grade_threshold: Positive = Field(2.0, description="without effect")
    patience: Count = Field(2, description="without effect")


class DataSettings(_Section):
    """Energies computed before: part of training and hull, no part of the budget."""

    files: list[Path] = Field(
        default_factory=list, description="files, folders of calculations, or run directories"
    )
    reuse: list[Path] = Field(
        default_factory=list, description="run directories of the same method (run --reuse)"
    )
    energy_key: str | None = Field(None, description="name of the energy in the files")
    select: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="only frames with these values"
    )


class PhaseSettings(_Section):
    """One competing phase, known by formula and energy alone."""

    formula: str = Field(min_length=1)
    energy: float = Field(description="eV/atom", allow_inf_nan=False)
    name: str = ""


class CompetingSettings(_Section):
    """Phases that do not live on the lattice: part of the hull, never of training."""

    files: list[Path] = Field(
        default_factory=list,
        description="structure files with energies, tables (formula, energy), pymatgen entries",
    )
    phases: list[PhaseSettings] = Field(default_factory=list)
    energy_key: str | None = Field(None, description="name of the energy in the files")
    formation_energy: Literal["end members", "elements"] = Field(
        "end members", description="what formation energies refer to"
    )


class Settings(_Section):
    """A whole campaign file."""

    campaign: CampaignSettings = CampaignSettings()
    lattice: LatticeSettings
    candidates: CandidateSettings
    search: SearchSettings = SearchSettings()
    potential: PotentialSettings = PotentialSettings()
    oracle: OracleSettings
    learning: LearningSettings = LearningSettings()
    data: DataSettings = DataSettings()
    competing: CompetingSettings = CompetingSettings()

    def resolved(self) -> dict[str, Any]:
        """Return all values that have an effect, defaults too, as TOML can hold them (no None)."""
        dumped: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        for section, key in WITHOUT_EFFECT:
            del dumped[section][key]
        for key in MTP_KEYS if self.potential.model != MTP else ("parameters",):
            dumped["potential"].pop(key, None)
        return dumped

    def without_effect(self) -> list[str]:
        """Return a line for every key that is set but decides nothing any more."""
        return [
            f"{section}.{key} has no effect: {reason}; leave it out"
            for (section, key), reason in WITHOUT_EFFECT.items()
            if key in getattr(self, section).model_fields_set
        ]


WITHOUT_EFFECT = {
    ("search", "beam_width"): "the search itself decides how it goes about its work",
    ("learning", "initial"): "the first calculations are chosen like all others",
    ("learning", "near_hull"): "what a calculation is worth decides, wherever it lies",
    ("learning", "grade_threshold"): "what a calculation is worth decides, not its grade",
    ("learning", "patience"): "a run ends where nothing that matters is likely to be missing",
}
"""Keys of earlier versions, and what took over their part."""

NEUTRAL = (
    *WITHOUT_EFFECT,
    ("campaign", "name"),
    ("campaign", "output"),
    ("oracle", "workers"),
    ("oracle", "cores"),
    ("oracle", "launcher"),
    ("oracle", "keep_calculator"),
    ("oracle", "queue"),
    # Who computes an energy does not change it.
    ("oracle", "by_hand"),
    ("oracle", "timeout"),
    ("oracle", "grace"),
    # What they lead to defines an energy, and is part of the method.
    ("oracle", "command"),
    ("oracle", "datasets"),
    ("oracle", "max_formation_energy"),
)
"""Settings that decide nothing: with others of them a run goes on as if they were the same."""

RECORDED = ("environment", "stage")
"""Tables of a run's settings.toml that the program writes and no campaign file has."""

SETTINGS_FILE = "settings.toml"

INPUT_FILES = (
    *(("lattice", "file"), ("potential", "file"), ("oracle", "file"), ("candidates", "from_run")),
    *(("data", "files"), ("data", "reuse"), ("competing", "files")),
)
"""Settings that name files, or lists of files."""


def _with_campaign_file(run: Path) -> str:
    """Return how a run goes on whose own settings are lost."""
    return (
        f"to go on with the settings of a campaign file: latticesearch run CAMPAIGN --output {run}"
    )


def read_settings(
    path: Path,
    overrides: Iterable[str] = (),
    *,
    reuse: Sequence[str] = (),
    needs_oracle: bool = True,
) -> Settings:
    """Read and check a campaign file, or what a run keeps of its own.

    Parameters
    ----------
    path
        The TOML file, or a run directory; relative paths in it are relative to its folder.
    overrides
        Texts ``section.key=value`` that replace values of the file; values in TOML syntax,
        a bare word is a string.
    reuse
        Run directories to take energies from, beside those of the file.
    needs_oracle
        The file must say where true energies come from; what only counts and enumerates asks
        for none.

    Raises
    ------
    InputError
        The file is missing, is not TOML, or holds something unknown or contradictory.
    """
    if path.is_dir():
        if not (path / SETTINGS_FILE).exists():
            raise InputError(
                f"{path} is a folder without {SETTINGS_FILE}; give a campaign file; if there is a "
                f"run in it, {_with_campaign_file(path)}"
            )
        path /= SETTINGS_FILE
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InputError(f"cannot read the campaign file {path}: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        way_out = f"; {_with_campaign_file(path.parent)}" if path.name == SETTINGS_FILE else ""
        raise InputError(f"{path} is not valid TOML: {error}{way_out}") from error
    is_run = path.name == SETTINGS_FILE and "environment" in data
    if is_run:
        data.setdefault("campaign", {})["output"] = str(path.parent.absolute())
    for name in RECORDED:
        data.pop(name, None)
    for text in overrides:
        # Who types a path means it from here; inside a campaign file it is seen from the file.
        _override(data, text, Path.cwd() if is_run else None)
    if reuse:
        section = data.setdefault("data", {})
        known = section.setdefault("reuse", [])
        known += [p for r in reuse if (p := str(Path(r).absolute())) not in known]
    if not needs_oracle:
        data.setdefault("oracle", {"kind": "emt"})
    return parse_settings(data, base=path.parent, origin=str(path))


def settings_of_record(record: Mapping[str, Any], base: Path) -> Settings:
    """Return the settings that a run's settings.toml holds; `base` is the run directory."""
    return parse_settings({k: v for k, v in record.items() if k not in RECORDED}, base=base)


def parse_settings(data: dict[str, Any], *, base: Path, origin: str = "settings") -> Settings:
    """Check the `data` of a campaign file; paths become absolute with respect to `base`."""
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{origin}: {_explain(_deepest(error.errors()))}") from error
    return _absolute_paths(settings, base)


def _override(data: dict[str, Any], text: str, folder: Path | None = None) -> None:
    """Apply one ``section.key=value`` to `data`; paths in it are seen from `folder`, if given."""
    name, equals, value = text.partition("=")
    *sections, key = (part.strip() for part in name.split("."))
    if not (equals and sections and all((*sections, key))):
        raise InputError(f"--set {text}: write section.key=value, e.g. learning.budget=200")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table: Any = data
    for i, section in enumerate(sections):
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {text}: {'.'.join(sections[: i + 1])} is not a section")
    place = (".".join(sections), key)
    if folder is not None and place in INPUT_FILES:
        is_list = isinstance(parsed, list)
        paths = [str(folder / str(one)) for one in (parsed if is_list else [parsed])]
        parsed = paths if is_list else paths[0]
    table[key] = parsed


def _deepest(errors: list[ErrorDetails]) -> ErrorDetails:
    """Return the first complaint; where a key has several forms, the one that got furthest."""
    key = errors[0]["loc"][:2]
    alike = [details for details in errors if details["loc"][:2] == key]
    return max(alike, key=lambda details: sum(not _is_branch(part) for part in details["loc"]))


def _explain(details: ErrorDetails) -> str:
    """Turn pydantic's first complaint into one line with the place, the value and a way out."""
    place = ".".join(str(part) for part in details["loc"] if not _is_branch(part))
    if details["type"] == "extra_forbidden":
        return f"unknown key {place}{_suggestion(details['loc'])}"
    if details["type"] == "missing":
        return f"{place} is missing"
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":
        return f"[{place}] {message}"
    return f"{place} = {details['input']!r}: {message[0].lower()}{message[1:]}"


def _is_branch(part: object) -> bool:
    """Tell pydantic's names of union members, which no user wrote, from keys."""
    return isinstance(part, str) and any(c in part for c in "[(,-")


def _suggestion(place: tuple[int | str, ...]) -> str:
    """Return "; did you mean ...?" for a misspelt key, else the list of known keys."""
    model: type[BaseModel] = Settings
    for part in place[:-1]:
        if str(part) not in model.model_fields:
            continue  # a name that the user chooses, or one of pydantic's own
        annotation = model.model_fields[str(part)].annotation
        inside = [one for one in (annotation, *get_args(annotation)) if _is_section(one)]
        if not inside:
            return ""
        model = inside[0]
    known = sorted(model.model_fields)
    close = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(known)}"


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Tell whether a key holds a table with keys of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _absolute_paths(settings: Settings, base: Path) -> Settings:
    """Return `settings` with the paths of inputs made absolute and checked to exist."""

    def checked(place: str, path: Path) -> Path:
        found = (base / path.expanduser()).resolve()
        # What was imported once may be gone; whoever imports tells what is missing.
        if place == "competing.files" and found.is_dir():
            return found
        if place == "candidates.from_run" and not found.exists():
            raise InputError(
                f"{place}: there is no run {found}; a run that has begun with it keeps a copy: "
                "latticesearch run RUN"
            )
        if not (place.startswith(("data.", "candidates.")) or found.is_file()):
            raise InputError(f"{place}: there is no file {found}")
        return found

    settings = with_input_files(settings, checked)
    folder = settings.oracle.datasets
    if folder is None:
        return settings
    # Data sets have licences and sizes: they stay where they are.
    found = (base / folder.expanduser()).resolve()
    oracle = settings.oracle.model_copy(update={"datasets": found})
    return settings.model_copy(update={"oracle": oracle})


def with_input_files(settings: Settings, change: Callable[[str, Path], Path]) -> Settings:
    """Return `settings` with every path of an input changed.

    Parameters
    ----------
    settings
        Checked settings.
    change
        Given "section.key" and the path, gives another path.
    """
    for section, key in INPUT_FILES:
        model = getattr(settings, section)
        value, place = getattr(model, key), f"{section}.{key}"
        if not value:
            continue
        paths = [change(place, path) for path in value] if isinstance(value, list) else None
        new = change(place, value) if paths is None else paths
        model = model.model_copy(update={key: new})
        settings = settings.model_copy(update={section: model})
    return settings


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return "section.key: old -> new" for all values that can change a decision.

    A key that is not there has its default, also one that came to be after `old` was written.
    """
    found = []
    for section in sorted({*old, *new}):
        defaults = _defaults(section)
        before = {**defaults, **old.get(section, {})}
        after = {**defaults, **new.get(section, {})}
        for key in sorted({*before, *after}):
            same = before.get(key) == after.get(key)
            if not same and (section, key) not in NEUTRAL:
                found.append(f"{section}.{key}: {before.get(key)!r} -> {after.get(key)!r}")
    return found


def _defaults(section: str) -> dict[str, Any]:
    """Return the values of the keys of a section that need not be given."""
    field = Settings.model_fields.get(section)
    model = field.annotation if field else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    return {
        key: value.get_default(call_default_factory=True)
        for key, value in model.model_fields.items()
        if not value.is_required()
    }
