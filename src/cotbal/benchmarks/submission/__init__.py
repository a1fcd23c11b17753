"""Answers of finished models for servers that score them."""
