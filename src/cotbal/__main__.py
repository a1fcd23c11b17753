"""`python -m cotbal` is the command `cotbal`."""

from __future__ import annotations

from cotbal.cli.app import main

main()
