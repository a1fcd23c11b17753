"""Records on disk: reading, checking, images and nested portions. Nothing here imports torch."""
