"""The names users are promised; `search/test_driver.py` imports them in several orders."""

from __future__ import annotations

import pytest

import latticesearch as ls


@pytest.mark.parametrize("name", sorted(set(ls.__all__) - {"__version__"}))
def test_every_public_name_can_be_called(name):
    assert callable(getattr(ls, name))


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ls.nonsense
