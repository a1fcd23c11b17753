"""What a search has found, as rows of a table and as sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from cotbal.jobs.tuning.search import Failed, Search
from cotbal.jobs.tuning.settings import COMPILE, OWN, THREADS, Changes, Effect, named, overrides

BUSY = 0.5  # processes beyond the number of cores, on average over 5 minutes
TIGHT = 0.95  # of the memory: a step that needs slightly more would not fit


@dataclass(frozen=True)
class Ratio:
    """Time over that of the reference: median over rounds, smallest and largest."""

    value: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        spread = f" [{self.low:.2f}, {self.high:.2f}]" if self.rounds > 1 else ""
        return f"{self.value:.2f}{spread}"


@dataclass(frozen=True)
class Row:
    """One candidate.

    Attributes:
        settings: changes of the recipe, as a command takes them; `recipe` for none.
        seconds: of an optimizer step, median over rounds; None if a process failed.
        ratio: to the reference; None for the reference itself, and if a process failed.
        memory_mib: peak.
        effect: what the settings change in a result.
        difference: of the losses of the untimed steps, as a fraction; the largest.
        remark: why it is not recommended, or what to know.
    """

    settings: str
    seconds: float | None
    ratio: Ratio | None
    memory_mib: int | None
    effect: Effect
    difference: float | None
    remark: str


@dataclass(frozen=True)
class Tuned:
    """The result of `cotbal tune`.

    Attributes:
        rows: the recipe, then candidates in the order in which they were measured.
        reference: what ratios compare with.
        chosen: changes to use; empty where no setting is faster by more than noise.
        overrides: the same as `cotbal run` takes them.
        ratio: of the time of a step with these changes.
        apart: sentences about faster settings that are not chosen.
        steps: optimizer steps of a final run.
        seconds: of such a run: with the recipe (None if that does not fit), and with `chosen`.
        memory_mib: of the GPU or the machine.
        load: processes that were running, if there were more than cores; None on an idle machine.
        cores: that this command may use.
    """

    rows: tuple[Row, ...]
    reference: str
    chosen: str
    overrides: tuple[str, ...]
    ratio: Ratio | None
    apart: tuple[str, ...]
    steps: int
    seconds: tuple[float | None, float]
    memory_mib: int
    load: float | None
    cores: int

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def tuned(search: Search, memory_mib: int, load: float = 0.0) -> Tuned:
    """The result of a search that has ended.

    Args:
        load: mean number of processes that were running or waiting for a core.
    """
    candidates = list(dict.fromkeys([OWN, search.reference, *search.candidates()]))
    fits = search.reference == OWN
    return Tuned(
        rows=tuple(_row(search, candidate, memory_mib) for candidate in candidates),
        reference=named(search.reference),
        chosen=named(search.chosen),
        overrides=tuple(overrides(search.chosen)),
        ratio=_ratio(search, search.chosen),
        apart=tuple(_apart(search)),
        steps=search.steps,
        seconds=(_run_seconds(search, OWN) if fits else None, _run_seconds(search, search.chosen)),
        memory_mib=memory_mib,
        load=load if load > search.space.cores + BUSY else None,
        cores=search.space.cores,
    )


def _row(search: Search, candidate: Changes, memory_mib: int) -> Row:
    results, successes = search.of(candidate), search.successes(candidate)
    failures = [result for result in results if isinstance(result, Failed)]
    complete = bool(successes) and not failures
    # Not the largest: a process that was not forked has the peak of its imports, too.
    peak = round(median(one.memory_mib for one in successes)) if successes else None
    tight = peak is not None and peak > TIGHT * memory_mib
    return Row(
        settings=named(candidate),
        seconds=median(one.step for one in successes) if complete else None,
        ratio=_ratio(search, candidate) if complete else None,
        memory_mib=peak,
        effect=search.effect(candidate),
        difference=search.difference(candidate) if candidate != search.reference else None,
        remark=_failure(failures[0]) if failures else _remark(search, candidate, tight),
    )


def _failure(failed: Failed) -> str:
    if failed.out_of_memory:
        return "out of memory"
    lines = failed.message.strip().splitlines()
    return f"failed: {lines[-1][:120]}"


def _remark(search: Search, candidate: Changes, tight: bool) -> str:
    if candidate == search.reference:
        words = ["reference"]
    elif candidate == search.chosen:
        words = ["chosen"]
    elif search.is_faster(candidate):
        words = ["faster"]
    else:
        words = []
    repaid = search.repaid_after(candidate)
    if repaid is not None and (COMPILE, True) in candidate:
        once = search.seconds_once(candidate, search.reference)
        words.append(f"compiling takes {once:.0f} s per run, repaid after {repaid:,} steps")
    if tight:
        words.append("hardly fits")
    return "; ".join(words)


def _ratio(search: Search, candidate: Changes) -> Ratio | None:
    ratios = search.ratios(candidate)
    if candidate == search.reference or not ratios:
        return None
    return Ratio(median(ratios), min(ratios), max(ratios), len(ratios))


def _run_seconds(search: Search, candidate: Changes) -> float:
    """Estimated time of the training of a final run.

    It follows from the ratio and from the times of the reference, which was measured most often.
    """
    of_reference = search.successes(search.reference)
    step = median(one.step for one in of_reference)
    ratios = search.ratios(candidate) if candidate != search.reference else [1.0]
    once = median(one.once for one in search.successes(candidate))
    return once + search.steps * step * median(ratios)


def _apart(search: Search) -> list[str]:
    """Faster settings that only the user can choose."""
    sentences = []
    for candidate in search.candidates():
        if search.can_be_chosen(candidate) or not search.is_faster(candidate):
            continue
        text = f"{named(candidate)} takes {_ratio(search, candidate)} of the time"
        if THREADS in dict(candidate):
            sentences.append(text + _of_cores(search, candidate))
        else:
            difference = search.difference(candidate) or 0.0
            sentences.append(
                f"{text}, but changes numbers: the first losses by {difference:.1e} of their value."
                " Results of other runs are not comparable with it"
            )
    return sentences


def _of_cores(search: Search, candidate: Changes) -> str:
    """How a run with other threads uses the cores that it takes."""
    mine = int(dict(candidate)[THREADS])
    theirs = int(search.space.values[THREADS])
    work = median(search.ratios(candidate)) * mine / theirs
    return (
        f" of one run, and {work:.2f} of the time of its cores, which several runs can share; it is"
        " an option of commands, no field of the recipe"
    )
