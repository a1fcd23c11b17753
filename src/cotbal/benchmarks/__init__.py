"""Recipes: one folder a benchmark, and the starter that `cotbal init` writes."""
