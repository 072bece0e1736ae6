"""Walks through the labelings of one composition of one supercell: plain, guided, by the clock."""
