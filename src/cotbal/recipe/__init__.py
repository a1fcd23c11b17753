"""Recipes: what determines a result, read from strict YAML."""
