"""Zero-shot evaluation: the eight columns of the paper's Table 2, by lmms-eval in an environment of
its own.
"""
