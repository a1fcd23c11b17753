"""Records on disk: reading, checking, pictures and nested portions. Nothing here imports torch."""
