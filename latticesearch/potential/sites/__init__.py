"""Energies of single sites, learnt from labelings whose site energies were paid for."""

from __future__ import annotations

from latticesearch.potential.sites.descriptors import SiteBasis, SiteTable, site_basis
from latticesearch.potential.sites.kernel_ridge import SiteSurrogate

__all__ = ["SiteBasis", "SiteSurrogate", "SiteTable", "site_basis"]
