"""Jobs: plan runs, run them anywhere, resume, weigh, compare; everything about a run directory."""
