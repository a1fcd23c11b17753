"""The commands of the command line, one file per command; options that several share are in
`options`. Heavy imports stay inside the functions, so that `--help` starts quickly.
"""
