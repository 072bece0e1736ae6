"""Ranking of all labelings of enumerable cells by surrogates: only the promising are paid for."""
