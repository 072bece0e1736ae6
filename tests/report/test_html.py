from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from latticesearch.report import write_report
from tests.report.tables import made_up, some_rounds

EVIL = "<script>alert('x')</script> & \"quotes\""


class Checker(HTMLParser):
    """Collects what a page needs from elsewhere, and whether its tags are nested well."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


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
    return write_report(candidates, hull, summary, some_rounds(), failures, settings)


def test_nothing_is_taken_from_elsewhere_and_nothing_runs(page):
    html, _ = page
    checker = Checker()
    checker.feed(html)
    assert not checker.open
    assert "script" not in checker.tags
    assert "link" not in checker.tags
    assert not re.search(r"@import|url\(", html)
    outside = [link for link in checker.links if not link.startswith("data:image/svg+xml;base64,")]
    assert outside
    assert all(link.startswith("stable/") for link in outside)


def test_everything_a_user_wrote_is_shown_as_text(page):
    html, _ = page
    checker = Checker()
    checker.feed(html)
    shown = "".join(checker.text)
    assert shown.count("<script>") >= 7
    assert "campaign.seed" in shown
    assert "1 min 39 s" in shown
    assert "meV/atom" in shown


def test_figures_come_as_png_and_svg(page):
    html, figures = page
    assert set(figures) == {
        f"{name}.{kind}" for name in ("hull", "learning", "predictions") for kind in ("png", "svg")
    }
    assert html.count("<img") == 3


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
    assert "Depth" not in page[0]
