"""From files of records to batches, and what can be wrong on the way."""
