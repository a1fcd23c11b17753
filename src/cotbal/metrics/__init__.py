"""One file per metric; each has MAXIMUM, HIGHER_IS_BETTER, `score` and `constant_answer`."""
