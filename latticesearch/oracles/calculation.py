"""What computes one structure inside a worker: any calculator of ASE, or the preset of a code."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase import Atoms

import latticesearch
from latticesearch.oracles.blame import cause_of
from latticesearch.oracles.parallel_codes import Parallel
from latticesearch.oracles.printed import described
from latticesearch.oracles.relaxation import ENERGY_NOISE, Relaxation, relax

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from ase.calculators.calculator import Calculator


class Source(Protocol):
    """What a worker asks for an energy."""

    calculator: Calculator
    """What has computed last."""

    def compute(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply to a job; see `compute`."""


def source_of(job: Mapping[str, Any]) -> Source:
    """Return what computes a job; whatever is missing for it raises here.

    Parameters
    ----------
    job
        What `latticesearch.oracles.AseOracle` sends.
    """
    if job.get("preset") is not None:
        return _FromPreset(job)
    return _FromCalculator(job)


def reply_to(job: Mapping[str, Any], begins: Callable[[], None] | None = None) -> dict[str, Any]:
    """Compute one job in this process; return the reply, which names the error if there is one.

    Parameters
    ----------
    job
        As `source_of` takes it.
    begins
        Called when the calculator is there and is about to see the structure.
    """
    try:
        source = source_of(job)
    except BaseException as error:  # noqa: BLE001 - it has not even seen a structure
        return {"error": described(error), "cause": "environment"}
    if begins is not None:
        begins()
    try:
        return source.compute(job)
    except BaseException as error:  # noqa: BLE001 - any failure of a job is a result
        text = odd_energy(source.calculator) or described(error)
        return {"error": text, "cause": cause_of(error)}


class _FromCalculator:
    """A calculator of ASE by name, or of one's own."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        name, parameters = job["calculator"], job["parameters"]
        if job.get("keep"):
            self.calculator = _kept(name, parameters, lambda: make_calculator(name, parameters))
        else:
            self.calculator = make_calculator(name, parameters)

    def compute(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply to a job."""
        reply = compute(job, self.calculator)
        code = job["calculator"]
        package = "ase" if ":" not in code else code.partition(".")[0].partition(":")[0]
        found = {"code": code, "package": package, "version": _version(package)}
        return {**reply, "provenance": {**found, **here()}}


class _FromPreset:
    """A code through its preset."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        from latticesearch.oracles.presets import PRESETS, Wanted

        self._preset = PRESETS[job["calculator"]]
        self._wanted = replace(Wanted.from_dict(job["preset"]), parallel=Parallel.of(job))
        self._atoms = start_of(job)
        self._symbols = sorted(set(self._atoms.symbols))
        self._grid = self._start_grid()
        attempt = job["record"]["attempt"]
        self._inputs = self._preset.inputs(self._wanted, self._atoms, self._grid, attempt)
        self.calculator = self._new()

    def _start_grid(self) -> tuple[int, int, int]:
        from latticesearch.oracles.presets.kpoints import start_grid

        return (1, 1, 1) if self._wanted.kspacing is None else start_grid(self._atoms, self._wanted)

    def _new(self) -> Calculator:
        if not self._preset.keeps:
            return self._preset.calculator(self._wanted, self._inputs, self._symbols)
        return _kept(
            self._preset.name,
            self._inputs,
            lambda: self._preset.calculator(self._wanted, self._inputs, self._symbols),
        )

    def compute(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply to a job: of all magnetic orders it starts from, the lowest.

        Raises
        ------
        Exception
            What the last order has raised, where none could be computed.
        """
        from latticesearch.oracles.presets.magnetism import orders

        replies: dict[str, dict[str, Any]] = {}
        failures: dict[str, str] = {}
        starts = orders(self._atoms, self._wanted)
        for name, moments in starts.items():
            try:
                replies[name] = self._one(job, moments)
            except Exception as error:
                failures[name] = described(error)
                if len(failures) == len(starts):
                    raise
            self.calculator = self._new()
        best = min(
            replies, key=lambda name: (not replies[name]["converged"], _energy(replies, name))
        )
        provenance = replies[best]["provenance"]
        if len(starts) > 1:
            energies = {name: reply["energy"] for name, reply in replies.items()}
            provenance |= {"orders": {**energies, **failures}}
        if self._wanted.spin != "none":
            provenance["order"] = best
        return replies[best]

    def _one(
        self, job: Mapping[str, Any], moments: npt.NDArray[np.float64] | None
    ) -> dict[str, Any]:
        """Return the reply to a job from one magnetic order."""
        atoms = self._atoms.copy()
        if moments is not None:
            atoms.set_initial_magnetic_moments(self._preset.start_moments(moments))
        atoms.calc = self.calculator
        ended = self._relax(atoms, job)
        energy = number(atoms.get_potential_energy())
        change = None
        if ended.steps and self._preset.is_costly and self._preset.has_stress:
            # What the steps have carried along is left behind, and the basis is that of this cell.
            self.calculator = atoms.calc = self._new()
            change = (number(atoms.get_potential_energy()) - energy) / len(atoms)
        findings = self._preset.findings(self.calculator)
        provenance = {
            "code": self._preset.name,
            **findings,
            "datasets": findings.get("datasets") or self._datasets(),
            "parameters": self._inputs,
            "kgrid": None if self._wanted.kspacing is None else list(self._grid),
            "steps": ended.steps,
            "ended": ended.reason or "threshold",
            "basis_change": change,
            **here(),
        }
        known = {key: value for key, value in provenance.items() if value is not None}
        return {**reply_of(atoms, _judged(ended, change)), "provenance": known}

    def _relax(self, atoms: Atoms, job: Mapping[str, Any]) -> Relaxation:
        scans = job["relax_cell"] and not self._preset.has_stress
        scanned = _scan(atoms, job["max_steps"]) if scans else None
        if scanned is not None and not (scanned.converged and job["relax_ions"]):
            return scanned
        return relax(
            atoms,
            cell=job["relax_cell"] and not scans,
            ions=job["relax_ions"],
            fmax=job["fmax"],
            max_steps=job["max_steps"],
            careful=job["careful"],
            symmetry=True,
            costly=self._preset.is_costly,
        )

    def _datasets(self) -> dict[str, dict[str, str]]:
        return self._preset.datasets(self._wanted, self._symbols)


MAX_BASIS_CHANGE = 10 * ENERGY_NOISE
"""eV/atom by which a calculation from scratch may differ from the last step of a relaxation."""


def _judged(ended: Relaxation, change: float | None) -> Relaxation:
    """Return how a relaxation ended, in view of what a calculation from scratch has changed."""
    if change is None or abs(change) <= MAX_BASIS_CHANGE:
        return ended
    reason = (
        f"a calculation from scratch changes the energy by {1000 * change:.2f} meV/atom: "
        "the state or the basis is another one; raise the cutoff"
    )
    return Relaxation(False, ended.steps, ended.residual, reason)  # noqa: FBT003


def _scan(atoms: Atoms, max_steps: int) -> Relaxation:
    from latticesearch.oracles.volume_scan import scan_volume

    return scan_volume(atoms, max_steps=max_steps)


def _energy(replies: Mapping[str, Mapping[str, Any]], name: str) -> float:
    return float(replies[name]["energy"])


_KEPT: dict[str, Any] = {}


def _kept(name: str, inputs: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """Return the calculator that this process has by a name and its inputs, made once."""
    full_name = json.dumps([name, inputs], sort_keys=True)
    if full_name not in _KEPT:
        _KEPT[full_name] = make()
    _KEPT[full_name].reset()
    return _KEPT[full_name]


def here() -> dict[str, str]:
    """Return where a calculation runs, and by which version of ours."""
    return {"host": platform.node(), "latticesearch": latticesearch.__version__}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def compute(job: Mapping[str, Any], calculator: Calculator) -> dict[str, Any]:
    """Relax one structure.

    Parameters
    ----------
    job
        ``numbers``, ``positions``, ``cell``, ``pbc`` of the structure; ``relax_cell``,
        ``relax_ions``, ``fmax``, ``max_steps``, ``careful`` as in `relax`.
    calculator
        What computes it.

    Returns
    -------
    dict
        ``energy``, ``forces``, ``stress``, ``numbers``, ``positions``, ``cell``, ``converged``,
        ``steps``, ``residual``, ``reason``; only what JSON can hold.

    Raises
    ------
    ValueError
        The energy is no number.
    """
    atoms = start_of(job)
    atoms.calc = calculator
    ended = relax(
        atoms,
        cell=job["relax_cell"],
        ions=job["relax_ions"],
        fmax=job["fmax"],
        max_steps=job["max_steps"],
        careful=job["careful"],
    )
    return reply_of(atoms, ended)


def start_of(job: Mapping[str, Any]) -> Atoms:
    """Return the structure of a job before relaxation."""
    return Atoms(
        numbers=job["numbers"], positions=job["positions"], cell=job["cell"], pbc=job["pbc"]
    )


def reply_of(atoms: Atoms, ended: Relaxation) -> dict[str, Any]:
    """Return the numbers of a computed structure as JSON can hold them."""
    return {
        "energy": number(atoms.get_potential_energy()),
        "forces": _optional_property(atoms, "forces"),
        "stress": _optional_property(atoms, "stress"),
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": np.asarray(atoms.cell).tolist(),
        "converged": ended.converged,
        "steps": ended.steps,
        "residual": ended.residual,
        "reason": ended.reason,
    }


def number(value: Any) -> float:
    """Return an energy as a float.

    Raises
    ------
    ValueError
        It is none.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise ValueError(f"the calculator returned {value!r:.80} as the energy, which is no number")
    return float(array.item())


def odd_energy(calculator: Calculator) -> str | None:
    """Return in plain words that the energy is no number, where that is what went wrong."""
    results = getattr(calculator, "results", None)
    if isinstance(results, dict) and "energy" in results:
        try:
            number(results["energy"])
        except ValueError as error:
            return described(error).partition(": ")[2]
    return None


def _optional_property(atoms: Atoms, name: str) -> list[Any] | None:
    """Return forces or stress, or None where the calculator has none."""
    from ase.calculators.calculator import PropertyNotPresent

    if name not in getattr(atoms.calc, "implemented_properties", (name,)):
        return None
    try:
        # Some calculators have a property in some of their modes only.
        value = atoms.calc.get_property(name, atoms)
    except (NotImplementedError, PropertyNotPresent):
        return None
    if value is None:
        return None
    array = np.asarray(value, dtype=np.float64)
    if name == "stress" and array.shape == (3, 3):
        array = array[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    values: list[Any] = array.tolist()
    return values


def make_calculator(name: str, parameters: dict[str, Any]) -> Calculator:
    """Return a new calculator.

    Parameters
    ----------
    name
        "emt", the name of any calculator in ASE, or "module:factory" for your own: the function
        ``factory`` of ``module`` is called with `parameters` and returns an ASE calculator.
    parameters
        Keyword arguments.
    """
    if name == "emt":
        from latticesearch.oracles.emt import FastEmt

        return FastEmt(**parameters)
    if ":" in name:
        module, _, factory = name.partition(":")
        return getattr(importlib.import_module(module), factory)(**parameters)
    from ase.calculators.calculator import get_calculator_class

    return get_calculator_class(name)(**parameters)
