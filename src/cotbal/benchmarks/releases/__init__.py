"""Benchmarks from public releases: readers of raw files, rules that make records of them, files
whole or absent.
"""
