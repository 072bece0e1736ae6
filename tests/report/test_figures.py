from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from latticesearch.report.diagrams import NAMED
from latticesearch.report.figures import draw_figures
from latticesearch.report.style import formula_text, render
from latticesearch.report.system import make_system
from tests.report.tables import made_up, some_rounds, tables_of

SYSTEMS = {
    2: (("Mo", "Ta"), {"hull", "learning", "predictions"}),
    3: (("Nb", "Mo", "Ta"), {"hull", "phases", "learning", "predictions"}),
    4: (("Nb", "Mo", "Ta", "W"), {"hull", "faces", "phases", "learning", "predictions"}),
    6: (("Ti", "Zr", "Hf", "V", "Nb", "Ta"), {"hull", "phases", "learning", "predictions"}),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def drawn(request):
    species, names = SYSTEMS[request.param]
    candidates, hull = made_up(species, 150, n_sites=8)
    return species, names, candidates, hull, draw_figures(candidates, hull, some_rounds())


def test_every_figure_is_drawn_and_renders_without_warning(drawn):
    _, names, _, _, figures = drawn
    assert set(figures) == names
    png = render(figures["hull"], "png")
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert min(width, height) > 600
    for figure in figures.values():
        assert b"<svg" in render(figure, "svg")


def test_texts_of_a_figure_do_not_overlap(drawn):
    *_, figures = drawn
    for name in set(figures) & {"hull", "phases", "learning"}:
        figure = figures[name]
        figure.draw_without_rendering()
        boxes = []
        for axes in figure.axes:
            texts = [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title]
            boxes += [
                (t.get_text(), t.get_window_extent().shrunk(0.9, 0.9))
                for t in texts
                if t.get_text()
            ]
        for (a, box_a), (b, box_b) in itertools.combinations(boxes, 2):
            assert not box_a.overlaps(box_b), f"{a} overlaps {b} in {name}"


def test_a_learning_curve_has_one_value_per_number_of_calculations():
    candidates, hull = made_up(("Mo", "Ta"), 50, n_sites=8)
    rounds = some_rounds()
    rounds.append({**rounds[-1], "missing": 0.01})  # a last round that asks for nothing
    (line,) = draw_figures(candidates, hull, rounds)["learning"].axes[3].lines
    calls, missing = line.get_data()
    assert (np.diff(calls) > 0).all()
    assert missing[-1] == 1.0  # %


def test_triangle_names_the_stable_compounds():
    candidates, hull = made_up(("Al", "Ni", "Ti"), 100, 3, 8)
    system = make_system(candidates, hull)
    texts = {t.get_text() for t in draw_figures(candidates, hull, [])["hull"].axes[0].texts}
    compounds = {
        formula_text(f)
        for f, gain in zip(system.formulas, system.stabilities, strict=True)
        if np.isfinite(gain)
    }
    assert {"Al", "Ni", "Ti"} <= texts
    assert len(texts) == 3 + min(NAMED, len(compounds))
    assert texts - {"Al", "Ni", "Ti"} <= compounds


def test_binary_curve_goes_through_the_stable_structures():
    counts = [[4, 0], [0, 4], [2, 2], [3, 1], [1, 3]]
    candidates, hull = tables_of(("Mo", "Ta"), counts, [0, 0, -0.2, -0.15, -0.05])
    axes = draw_figures(candidates, hull, [])["hull"].axes[0]
    line = next(line for line in axes.lines if line.get_label() == "stable")
    np.testing.assert_allclose(line.get_xdata(), [0, 0.25, 0.5, 1])
    np.testing.assert_allclose(line.get_ydata(), [0, -150, -200, 0], atol=1e-9)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Mo", "0.25", "0.5", "0.75", "Ta"]


def test_a_sublattice_alloy_is_a_binary_of_its_compounds():
    counts = [[4 - i, i, 4] for i in range(5)]
    candidates, hull = tables_of(("Ti", "Hf", "N"), counts, [0, -0.1, -0.15, -0.05, 0])
    system = make_system(candidates, hull)
    assert system.names == ("TiN", "HfN")
    np.testing.assert_allclose(system.candidates.fractions[:, 1], np.arange(5) / 4, atol=1e-12)


def test_two_independent_sublattices_have_no_simplex():
    counts = [[a, 2 - a, c, 2 - c] for a in range(3) for c in range(3)]
    assert make_system(*tables_of(("A", "B", "C", "D"), counts, -np.arange(9.0))) is None


def test_no_compound_no_candidate_no_round():
    candidates, hull = tables_of(("Cu", "Ag"), [[1, 0], [0, 1], [1, 1]], [0, 0, 0.05])
    assert set(draw_figures(candidates, hull, some_rounds(1))) == {"hull", "predictions"}
    assert draw_figures(candidates.iloc[:0], hull.iloc[:0], []) == {}
    assert set(draw_figures(candidates.iloc[:0], hull, [])) == {"hull"}
    candidates, hull = tables_of(("Cu", "Ag", "Au"), np.eye(3, dtype=int), [0, 0, 0])
    assert set(draw_figures(candidates, hull, [])) == {"hull", "predictions"}


def test_faces_hold_their_own_points():
    candidates, hull = made_up(("Nb", "Mo", "Ta", "W"), 300, n_sites=8)
    face = make_system(candidates, hull).face((0, 2))
    assert face.names == ("Nb", "Ta")
    inside = (candidates.x_Mo + candidates.x_W) < 1e-9
    assert len(face.candidates) == inside.sum()
    np.testing.assert_allclose(face.candidates.fractions.sum(axis=1), 1)
    assert face.tie_lines.max() < len(face.stable)


def test_equal_figures_are_equal_files():
    candidates, hull = made_up(("Mo", "Ta"), 30)
    for kind in ("svg", "png"):
        first, second = (render(draw_figures(candidates, hull, [])["hull"], kind) for _ in range(2))
        assert first == second


def test_formulas_get_subscripts_and_anything_else_stays_text():
    assert formula_text("Mo13Ta3") == "Mo\u2081\u2083Ta\u2083"
    assert formula_text("a$b") == r"a\$b"
