"""Where an energy comes from, in the words that tables and databases use."""

from __future__ import annotations

COMPUTED = "computed"
"""By this run's oracle."""
OWN_DATA = "own data"
"""Read from a file that the user named; followed by a colon and the origin in databases."""
TOLD = "told"
"""By hand, after this run had asked; followed by a colon and where it was read from."""
REUSED = "reused"
"""By the oracle of another run of the same method."""
REFERENCE = "reference"
"""Given in the settings, for an end member."""
COMPETING = "competing"
"""A phase that does not live on the lattice."""
PREDICTED = "predicted"
"""By the potential alone."""
