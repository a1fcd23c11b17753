"""Fuzz campaign that keeps the inputs which reach new lines of cotbal, and damages those further.

    python benchmarks/fuzz_guided.py --inputs 20000 --seed 1 --keep failures --out guided.json
    python benchmarks/fuzz_guided.py --compare --seconds 4 --readers recipe,trials

Limits and outcomes are those of `fuzz.py`. Lines are traced in the process that reads, for files
of cotbal only. Half of the damages are of bytes; the other half change the tree of a JSON, JSON
Lines, YAML or CSV file. `--compare` gives blind and guided inputs the same processor time, and
counts the lines that each reach; blind inputs are traced when that time is over. An input that
fails is written to `--keep`, since it depends on those before it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

import cotbal
from fuzz import VALUES, Counts, _places, _with_damage, damaged, in_child, outcome_of, prepare
from fuzz_readers import READERS, Reader

PACKAGE = str(Path(cotbal.__file__).parent) + os.sep
LARGEST = 50_000  # bytes of an input that is damaged further
RECENT = 20  # inputs at the end of a corpus that are chosen half of the time


@dataclass
class Corpus:
    """Inputs that reached new lines, and all lines that were reached.

    Attributes:
        contents: the sound files first.
        lines: "file:number" below the package.
        counts: outcomes of all inputs.
        seconds: processor time that the inputs took.
    """

    contents: list[bytes]
    lines: set[str] = field(default_factory=set)
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0


def traced(reader: Reader, content: bytes) -> tuple[str, str, set[str]]:
    """What comes of one input, and the lines of cotbal that it reaches."""
    reached: set[tuple[str, int]] = set()

    def line(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def call(frame: FrameType, *_: object) -> Callable[..., Any] | None:
        return line if frame.f_code.co_filename.startswith(PACKAGE) else None

    sys.settrace(call)
    try:
        kind, message = outcome_of(reader, content)
    finally:
        sys.settrace(None)
    if kind in ("slow", "memory"):  # also due to tracing?
        kind, message = outcome_of(reader, content)
    return kind, message, {f"{file.removeprefix(PACKAGE)}:{number}" for file, number in reached}


def mutated(reader: Reader, contents: list[bytes], generator: random.Random) -> bytes:
    """An input of the corpus with one to four damages."""
    recent = generator.random() < 0.5
    content = generator.choice(contents[-RECENT:] if recent else contents)
    around = replace(reader, seeds=contents)
    for _ in range(generator.randint(1, 4)):
        changed = _with_other_tree(content, reader, generator) if generator.random() < 0.5 else None
        content = _with_damage(content, around, generator) if changed is None else changed
    return content


def _with_other_tree(content: bytes, reader: Reader, generator: random.Random) -> bytes | None:
    """None: the file has no tree, or is too damaged to have one."""
    try:
        tree, write = _tree(content, Path(reader.file).suffix, reader.structured)
        places = list(_places(tree))
        if places:
            _change(*generator.choice(places), places, generator)
        return write(tree)
    except (ValueError, TypeError, RecursionError, MemoryError, yaml.YAMLError, csv.Error):
        return None


def _tree(content: bytes, suffix: str, structured: bool) -> tuple[Any, Callable[[Any], bytes]]:
    if len(content) > LARGEST:
        raise ValueError
    if suffix == ".csv" and not structured:
        return list(csv.reader(io.StringIO(content.decode()))), _csv
    if suffix == ".yaml":
        return yaml.safe_load(content), lambda tree: yaml.safe_dump(tree).encode()
    try:
        return json.loads(content), lambda tree: json.dumps(tree).encode()
    except ValueError:
        return [json.loads(line) for line in content.splitlines()], _lines


def _csv(rows: list[list[Any]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(row if isinstance(row, list) else [row] for row in rows)
    return file.getvalue().encode()


def _lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _change(holder: Any, key: Any, places: list[tuple[Any, Any]], generator: random.Random) -> None:
    """Replace, remove, repeat or rename an entry, or put another part of the file there."""
    other_holder, other_key = generator.choice(places)
    kind = generator.choice(("value", "part", "removed", "repeated"))
    if kind == "value":
        holder[key] = deepcopy(generator.choice(VALUES))
    elif kind == "part":
        holder[key] = deepcopy(other_holder[other_key])
    elif kind == "removed":
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(key, deepcopy(holder[key]))
    else:  # an object: the value under the name of another entry, or an unknown one
        holder[str(other_key) if generator.random() < 0.7 else f"{key} "] = holder.pop(key)


def campaign(
    name: str, seed: int, inputs: int | None, seconds: float | None = None, keep: Path | None = None
) -> Corpus:
    """Feed one reader until a number of inputs or a processor time is reached."""
    reader = READERS[name]
    prepare(name)
    corpus = Corpus(list(reader.seeds))

    def take(kind: str, message: str, new: list[str], content: str, spent: float) -> None:
        number = corpus.counts.inputs
        corpus.counts.add(number, kind, message)
        corpus.seconds += spent
        _learn(corpus, kind, new, b64decode(content))
        if keep and kind not in ("read", "rejected"):
            keep.mkdir(parents=True, exist_ok=True)
            file = f"{name.replace('/', '_')}-{seed}-{number}-{reader.file}"
            (keep / file).write_bytes(b64decode(content))

    while _more(corpus, inputs, seconds):
        before = corpus.counts.inputs
        status = in_child(partial(_feed, name, seed, corpus, inputs, seconds), take)
        if _more(corpus, inputs, seconds):
            corpus.counts.add(corpus.counts.inputs, "ended", f"wait status {status}")
        assert corpus.counts.inputs > before, f"{name}: a child did nothing"
    return corpus


def _more(corpus: Corpus, inputs: int | None, seconds: float | None) -> bool:
    enough = inputs is not None and corpus.counts.inputs >= inputs
    return not enough and not (seconds is not None and corpus.seconds >= seconds)


def _learn(corpus: Corpus, kind: str, new: list[str], content: bytes) -> None:
    if new and kind in ("read", "rejected") and 0 < len(content) <= LARGEST:
        corpus.contents.append(content)
    corpus.lines.update(new)


def _feed(
    name: str,
    seed: int,
    corpus: Corpus,
    inputs: int | None,
    seconds: float | None,
    results: io.FileIO,
) -> None:
    """Read inputs and report each; the corpus of this process grows as that of its parent."""
    reader = READERS[name]
    while _more(corpus, inputs, seconds):
        start, number = _spent(), corpus.counts.inputs
        sound = number < len(reader.seeds)
        generator = random.Random(f"{seed} {name} {number}")
        content = reader.seeds[number] if sound else mutated(reader, corpus.contents, generator)
        kind, message, reached = traced(reader, content)
        new = sorted(reached - corpus.lines)
        _learn(corpus, kind, [] if sound else new, content)
        corpus.lines.update(new)
        corpus.counts.inputs += 1
        reported = kind not in ("read", "rejected") or (new and not sound)
        spent = _spent() - start
        corpus.seconds += spent
        sent = b64encode(content).decode() if reported else ""
        results.write(json.dumps([kind, message, new, sent, spent]).encode() + b"\n")


def _spent() -> float:
    """Seconds of processor time of this process and of those it waited for."""
    return sum(os.times()[:4])


def blind_lines(name: str, seed: int, seconds: float) -> tuple[int, set[str]]:
    """Inputs that `fuzz.py` reads in this time, and the lines that these reach."""
    reader, lines, inputs = READERS[name], set[str](), []

    def feed(results: io.FileIO) -> None:
        start, number = _spent(), 0
        while _spent() - start < seconds:
            outcome_of(reader, damaged(reader, random.Random(f"{seed} {name} {number}")))
            number += 1
        seen: set[str] = set()
        for index in range(number):
            content = damaged(reader, random.Random(f"{seed} {name} {index}"))
            new = traced(reader, content)[2] - seen
            seen |= new
            results.write(json.dumps([index, sorted(new)]).encode() + b"\n")

    def take(index: int, new: list[str]) -> None:
        inputs.append(index)
        lines.update(new)

    in_child(feed, take)
    return len(inputs), lines


def compared(name: str, seed: int, seconds: float) -> dict[str, int]:
    """Inputs and lines of both kinds at the same processor time."""
    sound: set[str] = set()
    prepare(name)
    for content in READERS[name].seeds:
        in_child(partial(_feed_sound, READERS[name], content), lambda *new: sound.update(new))
    number, blind = blind_lines(name, seed, seconds)
    guided = campaign(name, seed, None, seconds)
    return {
        "sound": len(sound),
        "blind inputs": number,
        "blind lines": len(blind | sound),
        "guided inputs": guided.counts.inputs,
        "guided lines": len(guided.lines | sound),
        "only guided": len(guided.lines - blind - sound),
        "only blind": len(blind - guided.lines - sound),
        "failures": guided.counts.failures,
    }


def _feed_sound(reader: Reader, content: bytes, results: io.FileIO) -> None:
    results.write(json.dumps(sorted(traced(reader, content)[2])).encode() + b"\n")


def main() -> None:
    """Run the campaign or the comparison and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="over all readers")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true", help="with blind inputs")
    parser.add_argument("--seconds", type=float, default=4, help="per reader, of --compare")
    parser.add_argument("--keep", type=Path, help="directory of the inputs that fail")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names = options.readers.split(",")
    figures: dict[str, dict[str, Any]] = {}
    for name in names:
        if options.compare:
            figures[name] = compared(name, options.seed, options.seconds)
        else:
            inputs = -(-options.inputs // len(names))
            figures[name] = _figures(campaign(name, options.seed, inputs, keep=options.keep))
        print(name, figures[name], flush=True)
    print(sum(figure["failures"] for figure in figures.values()), "failures")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


def _figures(corpus: Corpus) -> dict[str, Any]:
    return {
        "inputs": corpus.counts.inputs,
        **corpus.counts.kinds,
        "lines": len(corpus.lines),
        "kept": len(corpus.contents),
        "failures": corpus.counts.failures,
        "examples": corpus.counts.examples,
    }


if __name__ == "__main__":
    main()
