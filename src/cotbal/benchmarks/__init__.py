"""Benchmarks: one folder per benchmark, and the starter that `cotbal init` writes."""
