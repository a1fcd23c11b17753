"""Trainers: somebody else's trainer that we plug into, one file each."""
