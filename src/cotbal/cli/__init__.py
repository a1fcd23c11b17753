"""The verbs of the command line, by what they need: data alone, a job, a table. Heavy imports stay
inside them.
"""
