"""Readers of other benchmarks' data and results."""
