"""The shell of the page: one HTML document that loads nothing and runs nothing but its own scripts.

A security policy in the page lets the browser run exactly the scripts written here, named by their
digests, and forbids every connection: text from elsewhere that got into the page as markup could
neither run nor call home.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Final

from latticesearch.report.page_data import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES: Final = ("plotly-gl3d.min.js", "3Dmol-min.js")
"""Other people's scripts; `assets/README.md` says why these."""

SCRIPTS: Final = ("page.js", "hull.js", "structure.js", "table.js", "curves.js", "start.js")
"""Our own, in the order in which they build on each other."""

LICENCES: Final = ("LICENSE-plotly.txt", "LICENSE-3Dmol.txt")

_MARK: Final = 'document.documentElement.className = "js";'
"""Runs first: from then on the page shows what needs scripts instead of what does without."""


def document(title: str, body: str, data: Mapping[str, object]) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Text.
    body
        HTML; what it says of foreign text is escaped already.
    data
        What the scripts work with.
    """
    scripts = [_asset(name) for name in (*LIBRARIES, *SCRIPTS)]
    elements = "\n".join(f"<script>{script}</script>" for script in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy([_MARK, *scripts])}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} - latticesearch</title>\n"
        f"<style>\n{_asset('page.css')}</style>\n<script>{_MARK}</script>\n</head>\n"
        f"<body>\n{body}\n{_licences()}\n"
        f'<script type="application/json" id="data">{json_text(data)}</script>\n'
        f"{elements}\n</body>\n</html>\n"
    )


def _policy(scripts: list[str]) -> str:
    """Return a security policy that allows these scripts and no connection."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _asset(name: str) -> str:
    """Return the text of a file of the page; no script holds what would end its element."""
    text = resources.files("latticesearch.report").joinpath(f"assets/{name}").read_text("utf-8")
    return text.replace("\r\n", "\n")


def _licences() -> str:
    """Return the licences of what other people wrote."""
    texts = "".join(f"<pre>{escape(_asset(name))}</pre>" for name in LICENCES)
    return (
        "<footer><details><summary>Written with plotly.js and 3Dmol.js: their licences</summary>"
        f"{texts}</details></footer>"
    )
