"""Training and answering with models; only what is below this package knows torch."""
