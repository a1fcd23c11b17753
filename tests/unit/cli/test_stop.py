"""A stop signal ends the command, wherever Python delivers it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, time, weakref
from cotbal.cli import app

class Thing:
    pass

def begin():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(NUMBER))
    del thing  # what is raised in a callback is ignored

def command():
    try:
        BEGIN
        print("went on", flush=True)
        time.sleep(30)
        print("done", flush=True)
    finally:
        time.sleep(2)
        print("saved", flush=True)

app.app = command
app.main()
"""


def ended(begin: str, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("BEGIN", begin).replace("NUMBER", str(int(number)))
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_is_not_lost_in_a_callback(number: signal.Signals, code: int) -> None:
    process = ended("begin()", number)
    assert process.stdout == "went on\nsaved\n"
    assert process.returncode == code
    assert process.stderr.count("Stopping") == 1


def test_what_saves_is_not_interrupted_by_the_same_stop() -> None:
    process = ended("signal.raise_signal(NUMBER)", signal.SIGINT)
    assert process.stdout == "saved\n"
    assert process.returncode == 130
