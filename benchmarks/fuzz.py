"""Fuzz campaign: damaged and hostile files for every reader.

    python benchmarks/fuzz.py --inputs 100000 --out fuzz.json

A reader must return or raise a `CotbalError`. Every input is read in a child process with 1 GB of
memory more than the reader itself needs, and 2 seconds of CPU time. Counted are other exceptions,
processes that end by a signal, and readers that exceed time or memory. Half of the damages are of
bytes; in files of JSON the other half replaces single values, so that they reach what lies behind
the parser. `--only READER:NUMBER` repeats one input.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from cotbal.errors import CotbalError
from fuzz_readers import READERS, Reader

MEMORY = 2**30  # bytes beyond what the process has when it starts
SECONDS = 2  # of CPU time
HANGS = 120  # seconds without a result after which a child is killed
LONGEST = 400  # characters of a message that is kept
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 0.5, 1e308, 10**30, float("nan"), float("inf"), "", "a", "\ud800"),
    *("<image>", "../../x", "embedded:1:../x", "\0", "x" * 5000, [], {}, [[]], [None], {"a": {}}),
    *({"": 0}, {"bytes": "x"}, [1] * 300),
]


class SlowError(BaseException):
    """A reader exceeded its CPU time."""


def damaged(reader: Reader, generator: random.Random) -> bytes:
    """A sound file with one to four damages."""
    content = generator.choice(reader.seeds)
    if reader.structured and generator.random() < 0.5:
        return _with_other_value(content, generator)
    for _ in range(generator.randint(1, 4)):
        content = _with_damage(content, reader, generator)
    return content


def _with_damage(content: bytes, reader: Reader, generator: random.Random) -> bytes:
    start = generator.randrange(len(content) + 1)
    end = min(len(content), start + generator.choice((1, 1, 2, 4, 8, 64, 512)))
    word = generator.choice(reader.words)
    part, other = content[start:end], generator.choice(reader.seeds)
    replacements = {
        "cut": lambda: content[:start],
        "removed": lambda: content[:start] + content[end:],
        "zeroed": lambda: content[:start] + bytes(len(part)) + content[end:],
        "ones": lambda: content[:start] + b"\xff" * len(part) + content[end:],
        "noise": lambda: content[:start] + generator.randbytes(len(part)) + content[end:],
        "flipped": lambda: _flipped(content, start, generator),
        "word": lambda: content[:start] + word + content[end:],
        "inserted": lambda: content[:start] + word + b" " + content[start:],
        "nested": lambda: content[:start] + word * generator.choice((3, 200, 20_000)),
        "digits": lambda: content[:start] + b"9" * generator.choice((20, 5000)) + content[end:],
        "twice": lambda: content[:end] + content[start:],
        "spliced": lambda: content[:start] + other[generator.randrange(len(other)) :],
    }
    kind = generator.choice([*replacements])
    return replacements[kind]()


def _flipped(content: bytes, position: int, generator: random.Random) -> bytes:
    if position == len(content):
        return content
    changed = content[position] ^ (1 << generator.randrange(8))
    return content[:position] + bytes([changed]) + content[position + 1 :]


def _with_other_value(content: bytes, generator: random.Random) -> bytes:
    lines = content.splitlines()
    try:
        rows, by_line = json.loads(content), False
    except ValueError:
        rows, by_line = [json.loads(line) for line in lines], True
    for _ in range(generator.randint(1, 3)):
        places = list(_places(rows))
        if places:
            holder, key = generator.choice(places)
            holder[key] = deepcopy(generator.choice(VALUES))
    if by_line:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    return json.dumps(rows).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Sequence[Any] = ()
    if isinstance(value, dict):
        keys = [*value]
    elif isinstance(value, list):
        keys = range(len(value))
    for key in keys:
        yield value, key
        yield from _places(value[key])


@dataclass
class Counts:
    """What came of the inputs of one reader; examples are of those that failed."""

    inputs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, number: int, kind: str, message: str = "") -> None:
        """Count one input."""
        self.inputs += 1
        self.kinds[kind] += 1
        if kind not in ("read", "rejected") and len(self.examples) < 20:
            self.examples.append(f"{number}: {kind}: {message[-LONGEST:]}")

    @property
    def failures(self) -> int:
        """Inputs that were neither read nor rejected with an error of cotbal."""
        return self.inputs - self.kinds["read"] - self.kinds["rejected"]


def campaign(name: str, inputs: int, seed: int = 0, first: int = 0) -> Counts:
    """Feed one reader; a new child follows one that ended."""
    counts = Counts()
    prepare(name)
    while counts.inputs < inputs:
        before = counts.inputs
        _one_child(name, first + before, first + inputs, seed, counts)
        assert counts.inputs > before, f"{name}: a child did nothing"
    return counts


def prepare(name: str) -> None:
    """Make the sound files here: a child would make them for itself, and leave them behind."""
    assert READERS[name].seeds[0]


def _one_child(name: str, first: int, last: int, seed: int, counts: Counts) -> None:
    before = counts.inputs
    status = in_child(partial(_feed, name, range(first, last), seed), counts.add)
    number = first + counts.inputs - before
    if number < last:
        counts.add(number, "ended", f"wait status {status}")


def in_child(feed: Callable[[FileIO], None], take: Callable[..., None]) -> int:
    """Call `feed` in a limited child process.

    Args:
        feed: writes one JSON list per line.
        take: receives the entries of each list, here.

    Returns:
        The wait status of the child, which is killed after `HANGS` seconds of silence.
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiver)
        try:
            _limit()
            with FileIO(sender, "wb") as results:
                feed(results)
        finally:  # never continue as a second parent
            os._exit(1)
    os.close(sender)
    with os.fdopen(receiver, "rb") as results:
        while select.select([results], [], [], HANGS)[0] and (line := results.readline()):
            take(*json.loads(line))
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status


def _limit() -> None:
    signal.signal(signal.SIGPROF, _give_up)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - of a process that ends with `_exit`


def _feed(name: str, numbers: Sequence[int], seed: int, results: FileIO) -> None:
    """Read inputs and report each."""
    for number in numbers:
        kind, message = outcome(READERS[name], name, number, seed)
        results.write(json.dumps([number, kind, message]).encode() + b"\n")


def outcome(reader: Reader, name: str, number: int, seed: int) -> tuple[str, str]:
    """What comes of one input."""
    return outcome_of(reader, damaged(reader, random.Random(f"{seed} {name} {number}")))


def outcome_of(reader: Reader, content: bytes) -> tuple[str, str]:
    """What comes of reading this content: a kind, and a message where it is a failure."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / reader.file
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            reader.read(path)
        except CotbalError as error:
            return ("rejected", "") if len(str(error)) < 100_000 else ("long message", "")
        except SlowError:
            return "slow", f"more than {SECONDS} s"
        except MemoryError:
            return "memory", f"more than {MEMORY:,} bytes"
        except BaseException:
            return "exception", traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return "read", ""


def _give_up(*_: object) -> None:
    raise SlowError


def main() -> None:
    """Run the campaign and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="over all readers")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="READER:NUMBER: repeat one input")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.only:
        name, _, number = options.only.partition(":")
        print(*outcome(READERS[name], name, int(number), options.seed), sep="\n")
        return
    names = options.readers.split(",")
    figures = {}
    for name in names:
        counts = campaign(name, -(-options.inputs // len(names)), options.seed)
        figures[name] = {
            "inputs": counts.inputs,
            **counts.kinds,
            "failures": counts.failures,
            "examples": counts.examples,
        }
        print(name, {**figures[name], "examples": counts.examples[:3]}, flush=True)
    print(sum(figure["failures"] for figure in figures.values()), "failures")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
