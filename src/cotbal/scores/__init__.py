"""Scores: matrices of runs and tasks, tables and files of them, metrics at work."""
