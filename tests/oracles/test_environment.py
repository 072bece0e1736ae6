"""What is no fault of a structure: it is repeated, and then ends the run with what was printed."""

from __future__ import annotations

import pytest

from latticesearch.errors import OracleUnavailable
from latticesearch.oracles import AseOracle, RecordedOracle, dispatch, try_out
from tests.oracles.faulty import ACTIONS
from tests.oracles.test_ase_process import FAULTY, PAIR, TRIPLE, faulty, job

SINGLE_POINT = {"relax_cell": False, "relax_ions": False}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(dispatch, "PAUSES", (0.0, 0.0))


def test_faults_of_the_environment_are_no_answers():
    """One worker meets them all, each in a structure of its own."""
    expected = {
        "disk full": "OSError: .*No space left",
        "no program": "FileNotFoundError: .*no_such_program",
        "exit 127": "CalculationFailed: the program failed",
        "killed program": "CalculationFailed: the program failed",
        "reports 127": "returned an error: 127",
        "set up": "CalculatorSetupError: set VASP_PP_PATH",
        "import": "ModuleNotFoundError: .*no_such_module_at_all",
        "terminate": "RuntimeError: the program did not end well",
    }
    structures = [job(["Cu"] * (1 + i) + ["Pd"]) for i in range(len(expected))]
    formulas = [one.atoms.get_chemical_formula() for one in structures]
    faults = dict(zip(formulas, expected, strict=True))
    with AseOracle(FAULTY, parameters={"faults": faults}, **SINGLE_POINT) as oracle:
        for structure, message in zip(structures, expected.values(), strict=True):
            with pytest.raises(OracleUnavailable, match=message):
                list(oracle.run([structure], patience=1))
        assert [r.status for r in oracle.run([job(TRIPLE)])] == ["done"]


def test_a_worker_that_is_killed_again_and_again_ends_the_run():
    assert "kill" in ACTIONS
    with faulty("kill", **SINGLE_POINT) as oracle:
        results = oracle.run([job(["Cu"]), job(PAIR), job(["Pt"])])
        assert next(results).status == "done"
        with pytest.raises(OracleUnavailable, match=r"3 times in a row.*Cu-Pd: .*SIGKILL"):
            next(results)


def test_what_runs_beside_is_still_answered(tmp_path):
    with faulty("disk full", workers=2, scratch=tmp_path, **SINGLE_POINT) as oracle:
        seen = []
        with pytest.raises(OracleUnavailable, match=f"its files are in {tmp_path}"):
            seen.extend(r.status for r in oracle.run([job(PAIR), job(["Cu"])]))
        # Whether it was ready in time or not, its folder or a worker gives it now.
        seen.extend(r.status for r in oracle.run([job(["Cu"])]))
        assert set(seen) == {"done"}


def test_failures_at_the_same_time_are_one(monkeypatch):
    setbacks = dispatch._Setbacks(patience=3)
    times = iter([10.0, 10.1, 10.2, 13.0, 13.1, 16.0])
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: next(times))
    for _ in range(3):
        setbacks.add("no licence", started=5.0)
    assert setbacks.count == 1
    for _ in range(2):
        setbacks.add("no licence", started=11.0)
    assert (setbacks.count, setbacks.exhausted) == (2, float("inf"))
    setbacks.add("no licence", started=14.0)
    assert (setbacks.count, setbacks.exhausted) == (3, 16.0)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("broken_factory", "OSError: licence server does not answer"),
        ("no_such_factory", "AttributeError: .*no_such_factory"),
        ("crashing_factory", r"died \(SIGSEGV\)"),
    ],
)
def test_a_calculator_that_cannot_be_made_ends_the_run(factory, message):
    with AseOracle(f"tests.oracles.faulty:{factory}") as oracle:
        with pytest.raises(OracleUnavailable, match=message) as caught:
            list(oracle.run([job(["Cu"])]))
        assert "\n" not in str(caught.value)


def test_200_megabytes_of_anything_leave_a_short_harmless_text(tmp_path):
    with faulty("prints", scratch=tmp_path, **SINGLE_POINT) as oracle:
        (result,) = oracle.run([job(PAIR)])
        log = oracle.folder(job(PAIR)) / "worker.log"
    assert result.error.startswith("RuntimeError: see above (last printed: ")
    assert result.error.endswith("| licence expired)")
    assert result.error.isprintable()
    assert len(result.error) < 1200
    assert log.stat().st_size < 1_000_000


def test_a_trial_tells_what_a_campaign_will_meet(tmp_path):
    settings = {**SINGLE_POINT, "scratch": tmp_path}
    with faulty("print", **settings) as oracle:
        trial = try_out(oracle, job(PAIR).atoms)
        assert (trial.starts, trial.converged, trial.error) == (True, True, None)
        assert trial.has_forces
        assert trial.has_stress
        assert trial.seconds > 0
        assert "printed by a child" in trial.printed
        assert not list(tmp_path.iterdir())
    with faulty("raise", **settings) as oracle:
        for _ in range(2):
            failed = try_out(oracle, job(PAIR).atoms)
            assert (failed.starts, failed.converged, failed.energy) == (True, False, None)
            assert "SCF did not converge" in failed.error
    with AseOracle("tests.oracles.faulty:broken_factory", **settings) as oracle:
        unable = try_out(oracle, job(PAIR).atoms)
        assert (unable.starts, unable.converged) == (False, False)
        assert "licence server" in unable.error


def test_a_trial_asks_any_oracle(monkeypatch):
    table = RecordedOracle.__new__(RecordedOracle)
    monkeypatch.setattr(table, "run", lambda _: iter(()), raising=False)
    assert try_out(table, job(PAIR).atoms).error == "interrupted"
