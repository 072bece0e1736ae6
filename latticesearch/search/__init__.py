"""Search of low-energy structures under a potential: pools, enumeration, atom addition, polish."""

from __future__ import annotations

from latticesearch.search.driver import search
from latticesearch.search.greedy import SearchResult, greedy_search
from latticesearch.search.pool import Candidate, CandidatePool

__all__ = ["Candidate", "CandidatePool", "SearchResult", "greedy_search", "search"]
