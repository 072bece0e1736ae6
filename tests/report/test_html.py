from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from latticesearch.report import describe_hull, write_report
from latticesearch.report.page_data import MAX_FULL, MAX_THIN
from tests.report.structures import MadeUp
from tests.report.tables import made_up, some_rounds, tables_of

EVIL = "</script><script>alert('x')</script><img src=x> & \"quotes\""
MAX_BYTES = 8e6


class Checker(HTMLParser):
    """Collects what a page needs from elsewhere, and whether its tags are nested well."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.text = [], [], [], []
        self.scripts, self.data, self.policy = [], "", ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.links += [v for k, v in attributes if k in {"src", "href"}]
        if tag == "script":
            self.scripts.append("")
        if dict(attributes).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attributes)["content"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text.append(data)


def read(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    return checker


def data_of(html):
    """Return what the scripts of a page work with."""
    return json.loads(next(s for s in read(html).scripts if s.startswith('{"ends"')))


@pytest.fixture(scope="module")
def page():
    candidates, hull = made_up(("Mo", "Ta"), 60)
    hull.loc[1, "space_group"] = EVIL
    summary = {
        "name": EVIL,
        "stable": 5,
        "candidates": 60,
        "oracle_calls": 100,
        "rounds": 9,
        "failures": 1,
        "stop": EVIL,
        "near_hull_error": None,
        "seconds": 99.0,
    }
    failures = [{"key": EVIL, "formula": EVIL, "error": EVIL, "attempts": 2}]
    settings = {"campaign": {"name": EVIL, "seed": 7}, EVIL: [EVIL], "empty": {}}
    structures = MadeUp(candidates)
    hull = describe_hull(candidates, hull, summary, settings, structures)
    return write_report(
        candidates, hull, summary, some_rounds(), failures, settings, structures=structures
    )


def test_nothing_is_taken_from_elsewhere(page):
    checker = read(page[0])
    assert not checker.open
    assert "link" not in {tag for tag, _ in checker.tags}
    outside = [link for link in checker.links if not link.startswith("data:image/svg+xml;base64,")]
    assert outside
    assert all(link.startswith("stable/") for link in outside)
    style = re.search(r"<style>(.*?)</style>", page[0], re.DOTALL)[1]
    assert not re.search(r"@import|url\(", style)


def test_the_browser_is_told_to_run_these_scripts_only_and_to_connect_nowhere(page):
    checker = read(page[0])
    allowed = set(re.findall(r"'sha256-([^']+)'", checker.policy))
    assert checker.policy.startswith("default-src 'none';")
    assert "connect-src" not in checker.policy
    running = [s for s in checker.scripts if not s.startswith('{"ends"')]
    digests = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in running}
    assert digests == allowed
    assert all(not {"src", "onerror", "onclick"} & set(a) for t, a in checker.tags if t == "script")


def test_everything_a_user_wrote_is_shown_as_text(page):
    html, _ = page
    checker = read(html)
    shown = "".join(checker.text)
    assert shown.count("<script>") >= 7
    assert "campaign.seed" in shown
    assert "1 min 39 s" in shown
    assert not [a for t, a in checker.tags if t == "img" and a["src"] == "x"]
    assert EVIL in data_of(html)["rows"]["space_group"]


def test_the_licences_of_other_peoples_scripts_are_in_the_page(page):
    text = "".join(read(page[0]).text)
    for words in ("MIT License", "Plotly", "University of Pittsburgh", "Three.js"):
        assert words in text


def test_every_row_of_the_hull_has_a_structure_and_its_file(page):
    data = data_of(page[0])
    rows = data["rows"]
    for i, in_hull in enumerate(rows["inHull"]):
        structure = data["structures"][rows["structure"][i]]
        assert len(structure["positions"]) == 3 * len(structure["species"])
        if in_hull:
            head, number, tail = structure["cif"]
            assert head.startswith("data_")
            assert "x,y,z" in data["operations"][number]
            assert "_atom_site_fract_x" in tail
    assert sum(rows["inHull"]) > 3


def test_figures_come_as_png_and_svg(page):
    html, figures = page
    assert set(figures) == {
        f"{name}.{kind}" for name in ("hull", "learning", "predictions") for kind in ("png", "svg")
    }
    assert sum(tag == "img" for tag, _ in read(html).tags) == 3


def test_a_campaign_that_found_nothing_has_a_page():
    candidates, hull = made_up(("Mo", "Ta"), 5)
    html, figures = write_report(candidates.iloc[:0], hull.iloc[:0], {}, [], [], {})
    assert figures == {}
    assert "Every structure that was asked for has an energy." in html


def test_long_tables_are_cut_and_say_so():
    candidates, hull = made_up(("Mo", "Ta"), 5)
    failures = [{"key": str(i), "formula": "Mo", "error": "e", "attempts": 1} for i in range(250)]
    html, _ = write_report(candidates.iloc[:0], hull.iloc[:0], {}, [], failures, {})
    assert "50 more in the files" in html


def test_depths_of_stable_structures_are_shown_and_told_from_their_gain(page):
    candidates, hull = made_up(("Mo", "Ta", "W"), 60)
    stable = hull.energy_above_hull == 0
    depths = np.where(stable & (hull.n_atoms > 1), 0.0123, np.nan)
    html, _ = write_report(candidates, hull.assign(depth=depths), {}, some_rounds(), [], {})
    assert html.count('<th class="number">Depth<small>meV/atom') == 1
    assert html.count(">12.30</td>") == np.isfinite(depths).sum() > 0
    assert "Depth: how far" in html
    assert "never less than its depth" in html
    assert "Depth: how far" not in page[0]


def test_of_many_candidates_the_nearest_are_whole_and_the_others_a_sample():
    n = 10_000
    candidates, hull = made_up(("Nb", "Mo", "Ta", "W"), n, seed=3, share=200 / n)
    html, _ = write_report(candidates, hull, {}, [], [], {}, structures=MadeUp(candidates))
    data = data_of(html)
    assert len(html.encode()) < MAX_BYTES
    assert data["counts"]["candidates"] == len(candidates)
    assert len(data["rows"]["formula"]) == MAX_FULL
    assert 100 < len(data["thin"]["formula"]) <= MAX_THIN
    assert set(hull["key"]) <= set(data["rows"]["key"])
    computed = candidates[candidates.oracle_energy.notna()]
    others = ~np.isin(data["rows"]["key"], computed["key"])
    # What has no energy yet is there in the order of its prediction.
    above = np.array(data["rows"]["above"])[others]
    assert above.max() <= np.sort(1000 * candidates.energy_above_hull)[MAX_FULL] + 0.01


def test_columns_of_later_models_are_passed_on():
    candidates, hull = made_up(("Mo", "Ta"), 60, share=0.3)
    order = candidates[candidates.oracle_energy.isna()].nsmallest(10, "energy_above_hull").index
    ranks = pd.Series(pd.NA, index=candidates.index, dtype="Int64")
    ranks[order] = range(1, 11)
    candidates = candidates.assign(next=ranks, p_stable=0.25)
    html, _ = write_report(candidates, hull, {"zero": "elements"}, [], [], {})
    data = data_of(html)
    assert sorted(n for n in data["rows"]["next"] if n) == list(range(1, 11))
    assert set(data["rows"]["p_stable"]) == {0.25}
    assert data["zero"] == "elements"
    assert "The next calculations" in html


def test_phases_off_the_lattice_are_rows_without_a_structure():
    candidates, hull = made_up(("Mo", "Ta"), 40)
    other = hull.iloc[[1]].assign(key=None, source="competing", formula="Mo2Ta3", cif="")
    hull = pd.concat([hull.assign(source="computed", lattice="bcc"), other], ignore_index=True)
    structures = MadeUp(candidates)
    described = describe_hull(candidates, hull, {}, {}, structures)
    html, _ = write_report(candidates, described, {}, [], [], {}, structures=structures)
    rows = data_of(html)["rows"]
    i = rows["kind"].index("competing")
    assert (rows["formula"][i], rows["structure"][i]) == ("Mo2Ta3", None)
    assert rows["lattice"].count("bcc") == len(hull) - 1


def test_a_window_without_a_stable_structure_shows_its_best():
    counts = [[4, 0], [0, 4], [2, 2], [3, 1]]
    candidates, hull = tables_of(("Mo", "Ta"), counts, [0, 0, 0.08, 0.05])
    hull = hull.assign(depth=np.nan)
    html, _ = write_report(candidates, hull, {}, [], [], {})
    assert "The best structures that are not stable" in html
    assert ">50.00</td>" in html


def test_a_pseudo_binary_is_drawn_as_one():
    counts = [[4 - i, i, 4] for i in range(5)]
    candidates, hull = tables_of(("Ti", "Hf", "N"), counts, [0, -0.1, -0.15, -0.05, 0])
    hnf = [np.diag([1, 1, 4]).ravel() for _ in counts]
    html, _ = write_report(candidates.assign(hnf=hnf), hull, {}, [], [], {})
    data = data_of(html)
    assert data["ends"] == ["TiN", "HfN"]
    assert data["axis"] == "x in Ti₁₋ₓHfₓN"
    assert data["unit"] == "atom"
    assert "coloured by the lowest energy" not in html
    assert "The end members are compounds" in html
