"""Search of low-energy structures under a potential: the policy and its methods."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from latticesearch.search.driver import search
from latticesearch.search.pool import CandidatePool
from latticesearch.search.prove import Certificate, certify
from latticesearch.search.types import Budget, Candidate, Problem, SearchResult

__all__ = [
    "Budget",
    "Candidate",
    "CandidatePool",
    "Certificate",
    "Problem",
    "SearchResult",
    "certify",
    "search",
]


class _CallablePackage(ModuleType):
    """A package that can be called like its main function.

    Python binds ``latticesearch.search`` to this package as soon as anything imports it; users
    are promised a function of that name.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> CandidatePool:
        return search(*args, **kwargs)


__doc__ = (
    search.__doc__ or ""
)  # help(ls.search) is about the function, whichever of the two it meets
__signature__ = inspect.signature(search)
sys.modules[__name__].__class__ = _CallablePackage
