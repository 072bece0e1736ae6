"""The paragraph "Computational details": how the energies were computed, with what to cite.

All of it follows from the settings and from what is kept beside each energy; what is not known is
not said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

from latticesearch.report.references import REFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Record = Mapping[str, Any]

CODES: Final = {
    "gpaw": ("GPAW", ("gpaw", "gpaw paw", "paw")),
    "vasp": ("VASP", ("vasp", "vasp paw", "paw")),
    "espresso": ("Quantum ESPRESSO", ("espresso", "espresso 2017")),
    "abinit": ("ABINIT", ("abinit",)),
    "elk": ("the all-electron code Elk", ("elk", "lapw")),
}
"""Name of each code of density functional theory, and what is cited for it."""
POTENTIALS: Final = {
    "chgnet": ("the learned potential CHGNet", ("chgnet",)),
    "sevenn": ("the learned potential SevenNet", ("sevenn",)),
    "mtp": ("a moment tensor potential", ("mtp",)),
    "emt": ("effective medium theory", ("emt",)),
}
FUNCTIONALS: Final = {"PBESOL": "PBEsol", "REVPBE": "revPBE", "R2SCAN": "r²SCAN"}
SMEARINGS: Final = {
    "methfessel-paxton": "Methfessel-Paxton smearing of first order",
    "marzari-vanderbilt": "Marzari-Vanderbilt smearing",
    "fermi-dirac": "Fermi-Dirac smearing",
    "gaussian": "Gaussian smearing",
}
DISPERSIONS: Final = {"d3": "D3 with zero damping", "d3bj": "D3 with damping of Becke and Johnson"}
DENSER: Final = 0.75
"""As `latticesearch.oracles.presets.vocabulary.DENSER`."""
PZ: Final = frozenset({"vasp", "espresso"})
"""Codes whose LDA is that of Perdew and Zunger."""


@dataclass(frozen=True)
class Details:
    """The paragraph.

    Parameters
    ----------
    sentences
        With numbers of references in brackets.
    references
        In the order of their numbers, from 1.
    """

    sentences: tuple[str, ...]
    references: tuple[str, ...]

    def text(self) -> str:
        """Return the paragraph and the list of references as plain text."""
        listed = [f"[{n}] {one}" for n, one in enumerate(self.references, start=1)]
        return "\n".join([" ".join(self.sentences), "", *listed])

    def html(self) -> str:
        """Return the same as HTML."""
        items = "".join(f"<li>{escape(one)}</li>" for one in self.references)
        return f"<p>{escape(' '.join(self.sentences))}</p><ol>{items}</ol>"


def _cite(*keys: str) -> str:
    """Return what stands for the numbers of references until all are known."""
    return f"⟦{'|'.join(keys)}⟧"


def _numbered(text: str, order: list[str]) -> str:
    """Return a text with numbers for its references; `order` grows by those that are new."""

    def numbers(match: re.Match[str]) -> str:
        keys = match[1].split("|")
        order.extend(key for key in keys if key not in order)
        return f"[{', '.join(str(n) for n in sorted(order.index(key) + 1 for key in keys))}]"

    return re.sub("⟦(.+?)⟧", numbers, text)


def computational_details(settings: Record, provenances: Sequence[Record]) -> Details:
    """Return the paragraph on how the energies of a run came about.

    Parameters
    ----------
    settings
        The resolved settings with ``environment``.
    provenances
        Of all energies that the run has, what is known of how each came about.
    """
    sentences = [
        *_code(settings, provenances),
        *_electrons(settings, provenances),
        *_magnetism(settings, provenances),
        *_relaxation(settings, provenances),
        *_candidates(settings),
    ]
    order: list[str] = []
    numbered = tuple(_numbered(sentence, order) for sentence in sentences)
    return Details(numbered, tuple(REFERENCES[key] for key in order))


def _code(settings: Record, provenances: Sequence[Record]) -> Iterator[str]:
    oracle = settings["oracle"]
    kind = oracle.get("calculator") or oracle["kind"]
    ase = f"the Atomic Simulation Environment{_own_version(settings, 'ase')} {_cite('ase')}"
    if kind in CODES:
        name, keys = CODES[kind]
        uses_paw = kind == "abinit" and "xml" in str(_datasets(provenances)).lower()
        keys = (*keys, "abinit paw", "paw") if uses_paw else keys
        yield (
            f"Total energies were computed by density functional theory with "
            f"{name}{_version(provenances)} {_cite(*keys)} through {ase}."
        )
    elif kind in POTENTIALS:
        name, keys = POTENTIALS[kind]
        # Effective medium theory is a part of ASE.
        version = "" if kind == "emt" else _version(provenances)
        yield (f"Energies were computed with {name}{version} {_cite(*keys)} through {ase}.")
    elif kind == "recorded":
        yield "Energies were taken from a table of earlier results."
    elif kind == "manual":
        yield f"Energies were computed outside of this program ({_written(oracle)})."
    else:
        yield f"Energies were computed with {kind} through {ase} ({_written(oracle)})."
    n_told = sum("told" in one for one in provenances)
    if n_told and kind != "manual":
        which = "All" if n_told == len(provenances) else f"{n_told} of the {len(provenances)}"
        yield f"{which} calculations were run by hand."


def _written(oracle: Record) -> str:
    said = [f"{key} = {value}" for key, value in oracle.get("parameters", {}).items()]
    return ", ".join(said) or "no parameters given"


def _version(provenances: Sequence[Record]) -> str:
    found = sorted({str(one["version"]) for one in provenances if one.get("version")})
    return f" {' and '.join(found)}" if found else ""


def _own_version(settings: Record, package: str) -> str:
    version = settings.get("environment", {}).get(package)
    return f" {version}" if version else ""


def _datasets(provenances: Sequence[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for one in provenances:
        found |= one.get("datasets", {})
    return found


def _electrons(settings: Record, provenances: Sequence[Record]) -> Iterator[str]:
    """Yield functional, basis, k-points, smearing, data sets and corrections."""
    oracle = settings["oracle"]
    kind = oracle["kind"]
    if kind not in CODES:
        return
    xc = str(oracle.get("xc", "PBE")).upper()
    reference = "LDA PZ" if xc == "LDA" and kind in PZ else xc
    cited = f" {_cite(reference)}" if reference in REFERENCES else ""
    yield f"Exchange and correlation were those of {FUNCTIONALS.get(xc, xc)}{cited}."
    yield f"{_basis(oracle)} {_kpoints(oracle)}"
    smearing, width = _smearing(oracle)
    yield f"{SMEARINGS[smearing]} {_cite(smearing)} of {width:g} eV was used."
    if found := _datasets(provenances):
        named = [f"{symbol}: {_dataset(found[symbol])}" for symbol in sorted(found)]
        yield f"Data sets were {'; '.join(named)}."
    if dispersion := oracle.get("dispersion"):
        keys = ("d3", "d3bj") if dispersion == "d3bj" else ("d3",)
        yield f"Dispersion was corrected by {DISPERSIONS[dispersion]} {_cite(*keys)}."
    said = {s: one["hubbard"] for s, one in oracle.get("elements", {}).items() if "hubbard" in one}
    if said:
        values = ", ".join(
            f"{one.get('u', 0) - one.get('j', 0):g} eV ({symbol} {one.get('orbital', 'd')})"
            for symbol, one in said.items()
        )
        yield f"A Hubbard correction {_cite('hubbard')} of U - J = {values} was added."


def _basis(oracle: Record) -> str:
    if oracle["kind"] == "elk":
        rgkmax = oracle.get("parameters", {}).get("rgkmax", 8.0)
        return f"The basis was that of R·K_max = {rgkmax:g}."
    return f"Plane waves up to {oracle['cutoff']:g} eV were used."


def _kpoints(oracle: Record) -> str:
    spacing = oracle["kspacing"]
    own = {s: one for s, one in oracle.get("elements", {}).items() if {"kspacing", "grid"} & {*one}}
    text = (
        f"The Brillouin zone was sampled on Γ-centred grids with at most {spacing:g} Å⁻¹ (with the "
        f"factor 2π) between points, {DENSER * spacing:.3g} Å⁻¹ in pure elements"
    )
    for symbol, one in own.items():
        grid = "x".join(map(str, one["grid"])) if "grid" in one else f"{one['kspacing']:g} Å⁻¹"
        text += f", {grid} in {symbol}"
    return f"{text}."


def _smearing(oracle: Record) -> tuple[str, float]:
    said = oracle.get("smearing", 0.2)
    if isinstance(said, Mapping):
        return str(said.get("kind", "methfessel-paxton")), float(said.get("width", 0.2))
    return "methfessel-paxton", float(said)


def _dataset(record: Record) -> str:
    return str(record.get("title") or record.get("file") or "unknown")


def _magnetism(settings: Record, provenances: Sequence[Record]) -> Iterator[str]:
    spin = settings["oracle"].get("spin", "none")
    if settings["oracle"]["kind"] not in CODES:
        return
    if spin == "none":
        yield "Calculations were not spin-polarised."
        return
    text = "Calculations were spin-polarised, from ferromagnetic starts"
    if spin == "antiferromagnetic":
        text += " and from antiferromagnetic ones, of which the lowest energy counts"
    largest = max((abs(m) for one in provenances for m in one.get("moments", [])), default=None)
    if largest is not None:
        text += f"; final moments of atoms were up to {largest:.2f} Bohr magnetons"
    yield f"{text}."


def _relaxation(settings: Record, provenances: Sequence[Record]) -> Iterator[str]:
    oracle = settings["oracle"]
    if oracle["kind"] == "recorded":
        return
    parts = (("cells", "relax_cell"), ("atoms", "relax_ions"))
    relaxed = [name for name, key in parts if oracle[key]]
    volumes = isinstance(settings["lattice"].get("a"), Mapping)
    start = "at the mean volume of the elements" if volumes else "from the parent lattice"
    if not relaxed:
        where = "at the mean volume of their elements" if volumes else "at its lattice parameter"
        yield f"Structures were computed on the sites of the parent lattice, unrelaxed, {where}."
        return
    scanned = oracle["kind"] == "elk" and oracle["relax_cell"]
    way = " (cells by their volume alone)" if scanned else ""
    symmetry = ", keeping the space group and the k-points" if oracle["kind"] in CODES else ""
    yield (
        f"Starting {start}, {' and '.join(relaxed)} were relaxed{way} until forces were below "
        f"{oracle['fmax']:g} eV/Å{symmetry}."
    )
    residuals = [float(one["scf_residual"]) for one in provenances if "scf_residual" in one]
    if residuals:
        last = max(residuals)
        yield f"Self-consistent cycles ended with changes of the energy of at most {last:.1e} eV."


def _candidates(settings: Record) -> Iterator[str]:
    """Yield which structures competed, and how those to compute were chosen."""
    lattice, chosen = settings["lattice"], settings["candidates"]
    name = f"the {lattice['prototype']}" if "prototype" in lattice else "a given"
    if "from_run" in chosen:
        where = f"those within {1000 * chosen['within']:g} meV/atom of the hull of an earlier run"
    elif "supercell" in chosen:
        where = f"decorations of the supercell {chosen['supercell']}"
    else:
        where = f"all symmetrically distinct ones of up to {chosen['max_sites']} sites"
    program = f"latticesearch{_own_version(settings, 'latticesearch')}"
    kind = settings["potential"]["kind"]
    known = {"mtp": "moment tensor potential", "clusters": "cluster expansion"}
    model = f"a {known[kind]} {_cite(kind)}" if kind in known else f"a model ({kind})"
    yield (
        f"Competing structures were ordered decorations of {name} lattice: {where} "
        f"{_cite('enumeration')}. Which of them were computed was decided by active learning with "
        f"{model}, following Sotskov et al. {_cite('campaign')}, with {program}."
    )
    spglib = f"spglib{_own_version(settings, 'spglib')} {_cite('spglib')}"
    yield f"Space groups were found with {spglib}."
