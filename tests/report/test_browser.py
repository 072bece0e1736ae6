"""The page in a real browser: what readers do with it, and what it does then."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest

from latticesearch.report import describe_hull, write_report
from tests.report.browser import Browser, executable
from tests.report.structures import MadeUp
from tests.report.tables import made_up, some_rounds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="no Chromium here (apt install chromium)"),
]

SYSTEMS = {2: ("Mo", "Ta"), 3: ("Al", "Ni", "Ti"), 4: ("Nb", "Mo", "Ta", "W")}
EVIL = "<img src=x onerror='window.hacked=1'>"
TEXTS = (
    "[...document.querySelectorAll('#hull text')].filter(t => t.textContent.trim())"
    ".map(t => parseFloat(getComputedStyle(t).fontSize))"
)


def write_page(folder, species, n_points=60):
    candidates, hull = made_up(species, n_points, share=min(1.0, 300 / n_points))
    structures = MadeUp(candidates)
    hull = hull.assign(depth=np.where(hull.n_atoms > 0, 0.001, np.nan))
    summary = {"name": EVIL, "stable": 3, "near_hull_error": 0.003, "stop": EVIL}
    failures = [{"key": EVIL, "formula": EVIL, "error": EVIL, "attempts": 1}]
    hull = describe_hull(candidates, hull, summary, {}, structures)
    hull.loc[hull.index[-1], "space_group"] = EVIL
    html, _ = write_report(
        *(candidates, hull, summary, some_rounds(), failures, {EVIL: EVIL}), structures=structures
    )
    path = folder / f"{len(species)}.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {n: write_page(folder, species) for n, species in SYSTEMS.items()}


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path) as found:
        yield found


def centre(browser, selector, k=0):
    """Return the middle of an element on the screen, after scrolling to it."""
    element = f"document.querySelectorAll({selector!r})[{k}]"
    browser.value(f"{element}.scrollIntoView({{block: 'center'}})")
    return browser.value(
        f"(() => {{ const r = {element}.getBoundingClientRect();"
        " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )


@pytest.mark.parametrize("n", SYSTEMS)
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_without_an_error_and_asks_nobody_for_anything(tmp_path, pages, n, dark):
    with Browser(tmp_path, dark=dark) as browser:
        browser.open(pages[n])
        browser.value("window.scrollTo(0, document.body.scrollHeight)")
        browser.wait("document.querySelectorAll('#learning .main-svg').length >= 4")
        assert browser.errors == []
        assert [u for u in browser.requests if not u.startswith(("file:", "data:", "blob:"))] == []
        assert browser.value("window.hacked") is None
        assert browser.value("document.querySelectorAll('img[src=x]').length") == 0
        assert browser.value("document.querySelector('h1').textContent") == EVIL


@pytest.mark.parametrize("n", [2, 3])
def test_pointing_at_a_structure_tells_what_it_is_and_a_click_shows_it(browser, pages, n):
    browser.open(pages[n])
    # The first marker that is no end member, of the stable ones.
    number = browser.value(
        "(() => {"
        " const t = document.getElementById('hull').data.find(t => t.name === 'stable');"
        " const rows = t.customdata;"
        " return rows.findIndex(i => Report.data.rows.y[i].every(v => v < 0.999)); })()"
    )
    groups = browser.value("document.querySelectorAll('#hull .scatterlayer > .trace').length")
    selector = f"#hull .scatterlayer > .trace:nth-child({groups}) .point"
    x, y = centre(browser, selector, number)
    browser.point(x - 3, y)
    browser.point(x, y)
    browser.wait("document.querySelector('#hull .hovertext')")
    told = browser.value("document.querySelector('#hull .hovertext').textContent")
    for words in ("formation energy", "above hull", "P4/mmm", "computed, stable"):
        assert words in told
    browser.click(x, y)
    row = browser.value(
        f"document.getElementById('hull').data.find(t => t.name === 'stable').customdata[{number}]"
    )
    browser.wait(f"Report.selected === {row}")
    formula = browser.value(f"Report.data.rows.formula[{row}]")
    assert browser.value("document.querySelector('#structure h3').textContent") == formula
    assert browser.value("document.querySelector('#picture canvas').width") > 100


def test_a_tetrahedron_turns_and_its_faces_can_be_chosen(browser, pages):
    browser.open(pages[4])
    camera = "JSON.stringify(document.getElementById('hull')._fullLayout.scene._scene.getCamera())"
    before = browser.value(camera)
    x, y = centre(browser, "#hull")
    browser.drag(x, y, x + 120, y + 30)
    browser.wait(f"{camera} !== {before!r}")
    browser.click(*centre(browser, "#hull-controls .chips button"))
    browser.wait("document.getElementById('hull').dataset.kind === 'plane'")
    browser.click(*centre(browser, "#hull-controls .chips button", 1))
    browser.wait("document.getElementById('hull').dataset.kind === 'curve'")
    assert browser.errors == []


def cells(browser, column):
    return browser.value(
        "[...document.querySelectorAll('#structures tbody tr')]"
        f".map(row => row.cells[{column}].textContent)"
    )


def test_the_table_sorts_filters_and_searches(browser, pages):
    browser.open(pages[2])
    titles = browser.value(
        "[...document.querySelectorAll('#structures th')].map(t => t.textContent)"
    )
    column = next(i for i, title in enumerate(titles) if title.startswith("Formation"))
    for way in ("ascending", "descending"):
        browser.click(*centre(browser, "#structures th button", column))
        state = browser.value(f"document.querySelectorAll('#structures th')[{column}].ariaSort")
        assert state == way
        numbers = [float(c.replace("\u2212", "-")) for c in cells(browser, column)]
        assert numbers == sorted(numbers, reverse=way == "descending")
        assert len(set(numbers)) > 2
    everything = cells(browser, 0)
    search = "document.querySelector('#structures input')"
    browser.value(f"{search}.value = 'A2'; {search}.dispatchEvent(new Event('input'))")
    assert set(cells(browser, 0)) == {"Mo", "Ta"}
    browser.value(f"{search}.value = ''; {search}.dispatchEvent(new Event('input'))")
    choice = "document.querySelector('#structures select')"
    browser.value(f"{choice}.value = '1'; {choice}.dispatchEvent(new Event('change'))")
    assert 0 < len(cells(browser, 0)) < len(everything)


def test_files_can_be_saved_for_near_hull_rows_too(browser, pages, tmp_path):
    browser.open(pages[2])
    browser.downloads(tmp_path)
    row = browser.value(
        "Report.data.rows.inHull.findIndex((h, i) => h && !Report.data.rows.stable[i])"
    )
    for number in (row, browser.value("Report.data.rows.inHull.indexOf(false)")):
        browser.value(f"Report.select({number}, 'test')")
        browser.click(*centre(browser, "#cif"))
        for _ in range(100):
            files = list(tmp_path.glob("*.cif"))
            if files:
                break
            browser.value("new Promise(done => setTimeout(done, 100))")
        atoms = ase.io.read(files[0])
        formula = browser.value(f"Report.data.rows.formula[{number}]")
        assert (
            atoms.symbols.formula.reduce()[0].count() == ase.Atoms(formula).symbols.formula.count()
        )
        files[0].unlink()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("n", SYSTEMS)
def test_everything_fits_and_can_be_read(tmp_path, pages, n, width):
    with Browser(tmp_path, width, 844) as browser:
        browser.open(pages[n])
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert min(browser.value(TEXTS)) >= 11
        for title in ("Formation", "Above hull"):
            right = browser.value(
                "[...document.querySelectorAll('#structures th')]"
                f".find(t => t.textContent.startsWith({title!r})).getBoundingClientRect().right"
            )
            assert right <= width


def test_a_page_of_many_candidates_draws_few(tmp_path):
    path = write_page(tmp_path, SYSTEMS[2], 100_000)
    assert path.stat().st_size < 8e6
    with Browser(tmp_path) as browser:
        browser.open(path)
        assert browser.errors == []
        assert browser.value("document.querySelectorAll('#hull .point').length") <= 5100
        assert browser.value("document.querySelectorAll('#structures tbody tr').length") <= 100
        assert "of 100,002 candidates" in browser.value(
            "document.getElementById('hull-caption').textContent"
        )


def test_paper_has_pictures_and_tables_instead(browser, pages):
    browser.open(pages[3])
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = "[...document.querySelectorAll({})].map(e => e.getBoundingClientRect().height > 0)"
    assert set(browser.value(shown.format("'.paper img, .still table'"))) == {True}
    assert set(browser.value(shown.format("'.live'"))) == {False}
