"""Benchmarks that anybody can repeat from the command line."""
