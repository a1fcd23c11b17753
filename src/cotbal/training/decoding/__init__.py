"""Greedy answers without `generate`, where that is proven to give the same ones."""
