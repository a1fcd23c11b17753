"""From measured steps to settings: what is measured next, and which gains are more than noise.

Nothing here starts a process: `measure` does, and tests replace it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from cotbal.errors import RunError
from cotbal.jobs.tuning.rows import UNTIMED
from cotbal.jobs.tuning.settings import (
    CHECKPOINTING,
    COMPILE,
    EFFECTS,
    MICRO,
    OWN,
    THREADS,
    Changes,
    Effect,
    Space,
    named,
)

# Times as long in the first round, and more where the reference itself varies: not measured again.
HOPELESS = 1.25
VARIES = 3.0  # largest variation of the reference that is allowed for
GAIN = 0.03  # smallest part of the time that is worth a change
CHANCE = 1 / 8  # of a setting without any effect to be as often faster as one that is chosen
# Relative differences of losses from which on they are more than rounding.
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Measured:
    """Optimizer steps of one process.

    Attributes:
        seconds: of every timed step; the records of a step are the same in every process.
        begin_seconds: of the untimed steps, with all that a training does once.
        waiting: fraction of the timed steps in which it waited for batches.
        memory_mib: peak, of the GPU if there is one.
        losses: of the untimed steps: of the longest rows before any update, and of a mix of rows.
    """

    seconds: tuple[float, ...]
    begin_seconds: float
    waiting: float
    memory_mib: int
    losses: tuple[float, ...]

    @property
    def step(self) -> float:
        """Seconds of a timed step, their median."""
        return median(self.seconds)

    @property
    def once(self) -> float:
        """Seconds that a training takes once: those of the untimed steps beyond so many others."""
        return max(0.0, self.begin_seconds - UNTIMED * self.step)

    def over(self, other: Measured) -> float:
        """Time over that of another process: the median over steps of the same records."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return median(mine / theirs for mine, theirs in pairs)


@dataclass(frozen=True)
class Failed:
    """A process without a result.

    Attributes:
        out_of_memory: whether memory was too small, or it was killed.
        message: why, with the tail of its log.
    """

    out_of_memory: bool
    message: str


Result = Measured | Failed
Measure = Callable[[Sequence[Changes]], Iterable[Result]]


@dataclass
class Search:
    """Greedy search, one setting at a time.

    All single changes are measured in turns with a reference, and those that are hopeless after one
    round are left out of the others. A faster micro-batch is doubled or halved further. Then
    changes that are faster by more than noise are joined, the fastest first, and measured again.

    Args:
        measure: measures candidates one after another, in this order.
        rounds: how often a candidate is measured in turns with the reference.
        steps: optimizer steps of a final run, over which time that is spent once has to pay off.
        random: whether other micro-batches draw other random numbers (dropout), so that losses
            do not show how much a setting changes it.

    Attributes:
        reference: what ratios compare with: the recipe, or what fits in its place.
        measured: round -> candidate -> result.
        chosen: what is faster by more than noise, and changes no result beyond rounding.
    """

    space: Space
    measure: Measure
    rounds: int
    steps: int
    random: bool = False
    reference: Changes = OWN
    chosen: Changes = OWN
    measured: list[dict[Changes, Result]] = field(default_factory=list)

    def run(self) -> None:
        """Measure until nothing is left to try.

        Raises:
            RunError: the recipe's own settings fail, or nothing that was tried fits into memory.
        """
        first = self._first_that_fits()
        around = self.space.at(self.reference)
        singles = [
            self.space.changed(self.reference, *change)
            for change in around.candidates(first.waiting)
        ]
        self.compare(singles)
        self._recompute(singles)
        for up in (True, False):
            self._climb(up)
        self._join()

    def compare(self, candidates: Sequence[Changes]) -> None:
        """Measure candidates in turns with the reference."""
        order = [self.reference, *candidates]
        self._measure_round(order)
        left = [c for c in candidates if self._may_be_faster(c)]
        order = [self.reference, *left]
        planned: list[list[Changes]] = []
        for _ in range(self.rounds - 1 if left else 0):
            order = order[::-1]  # the reference first and last by turns
            planned.append(order)
        results = iter(self.measure([c for round in planned for c in round]))
        for round in planned:
            self.measured.append({c: next(results) for c in round})

    def ratios(self, candidate: Changes, other: Changes | None = None) -> list[float]:
        """Time over that of another candidate (by default the reference), one per common round."""
        reference = self.reference if other is None else other
        values = []
        for results in self.measured:
            mine, theirs = results.get(candidate), results.get(reference)
            if isinstance(mine, Measured) and isinstance(theirs, Measured):
                values.append(mine.over(theirs))
        return values

    def of(self, candidate: Changes) -> list[Result]:
        """All results of a candidate."""
        return [results[candidate] for results in self.measured if candidate in results]

    def successes(self, candidate: Changes) -> list[Measured]:
        """Its results with times."""
        return [result for result in self.of(candidate) if isinstance(result, Measured)]

    def is_faster(self, candidate: Changes, other: Changes | None = None) -> bool:
        """Whether it is faster by more than noise: by `GAIN`, in nearly all rounds, and over a
        whole run.
        """
        failed = len(self.successes(candidate)) < len(self.of(candidate))
        if failed or not _is_clear(self.ratios(candidate, other)):
            return False
        repaid = self.repaid_after(candidate, other)
        return repaid is None or repaid < self.steps

    def repaid_after(self, candidate: Changes, other: Changes | None = None) -> int | None:
        """Steps after which the time that compiling takes once is saved; None where that is not
        the question: it saves no time, or the other candidate compiles, too.
        """
        reference = self.reference if other is None else other
        ratios = self.ratios(candidate, other)
        compiles = [dict(c).get(COMPILE) is True for c in (candidate, reference)]
        if compiles != [True, False] or not ratios or median(ratios) >= 1:
            return None
        saved = (1 - median(ratios)) * median(one.step for one in self.successes(reference))
        return math.ceil(self.seconds_once(candidate, reference) / saved)

    def seconds_once(self, candidate: Changes, other: Changes) -> float:
        """What it takes once, beyond what another candidate takes."""
        mine, theirs = self.successes(candidate), self.successes(other)
        return max(0.0, median(one.once for one in mine) - median(one.once for one in theirs))

    def difference(self, candidate: Changes) -> float | None:
        """How much losses differ from those of the reference, as a fraction: the larger of both."""
        for results in self.measured:
            mine, theirs = results.get(candidate), results.get(self.reference)
            if isinstance(mine, Measured) and isinstance(theirs, Measured):
                pairs = zip(mine.losses, theirs.losses, strict=True)
                return max(abs(one - other) / max(abs(other), 1e-30) for one, other in pairs)
        return None

    def effect(self, candidate: Changes) -> Effect:
        """What it changes in a result: by the kind of its settings, and by the loss."""
        fields = [name for name, _ in candidate]
        kinds = {EFFECTS[name] for name in fields}
        difference = self.difference(candidate) or 0.0
        tolerance = TOLERANCES[str(self.space.values["model.dtype"])]
        if "numbers" in kinds or (difference > tolerance and not self.random):
            return "numbers"
        return "rounding" if "rounding" in kinds or difference else "none"

    def can_be_chosen(self, candidate: Changes) -> bool:
        """Whether it belongs into the recipe: a number of threads does not, nor does what changes
        numbers.
        """
        return THREADS not in dict(candidate) and self.effect(candidate) != "numbers"

    def _first_that_fits(self) -> Measured:
        """Measure the recipe, or what needs less memory; the first that fits is the reference."""
        failures: list[Failed] = []
        for candidate in (OWN, *self.space.fallbacks()):
            (result,) = self.measure([candidate])
            self.measured.append({candidate: result})
            if isinstance(result, Measured):
                self.reference = self.chosen = candidate
                return result
            failures.append(result)
            if not result.out_of_memory:
                break
        last = failures[-1]
        if last.out_of_memory:
            tried = ", ".join(named(c) for c in (OWN, *self.space.fallbacks()))
            raise RunError(
                f"out of memory with everything that was tried: {tried}", "too-little-memory"
            )
        raise RunError(f"the recipe cannot be trained here: {last.message}")

    def _measure_round(self, order: Sequence[Changes]) -> None:
        results = self.measure(order)
        self.measured.append(dict(zip(order, results, strict=True)))

    def _may_be_faster(self, candidate: Changes) -> bool:
        """Whether one round leaves open that it is faster."""
        ratios = self.ratios(candidate)
        steps = [one.step for one in self.successes(self.reference)]
        noise = min(max(steps) / min(steps), VARIES)
        if not ratios or ratios[-1] > HOPELESS * noise:
            return False
        repaid = self.repaid_after(candidate)
        return repaid is None or repaid < 2 * self.steps  # a warm cache compiles faster

    def _recompute(self, singles: Sequence[Changes]) -> None:
        """Where a larger micro-batch needs too much memory, try it with recomputed activations."""
        around = self.space.at(self.reference)
        larger = around.next_size(int(around.values[MICRO]), up=True)
        if larger is None or around.values[CHECKPOINTING] or CHECKPOINTING in around.without:
            return
        candidate = self.space.changed(self.reference, MICRO, larger)
        results = self.of(candidate)
        if candidate in singles and any(isinstance(r, Failed) and r.out_of_memory for r in results):
            self.compare([self.space.changed(candidate, CHECKPOINTING, True)])

    def _climb(self, up: bool) -> None:
        """Double, or halve, the micro-batch as long as that is faster by more than noise."""
        around = self.space.at(self.reference)
        size = around.next_size(int(around.values[MICRO]), up)
        while size is not None:
            before = self.space.changed(self.reference, MICRO, size)
            size = self.space.next_size(size, up)
            if size is None or not self.is_faster(before):
                return
            after = self.space.changed(self.reference, MICRO, size)
            self.compare([before, after])
            ratios = self.ratios(after, before)
            if not ratios or median(ratios) >= 1:
                return

    def _join(self) -> None:
        """Join what is faster, the fastest first, and choose what stays faster when it is measured
        again.
        """
        self.chosen = self.reference
        joined: list[Changes] = []
        for candidate in self._winners():
            before = dict(joined[-1]) if joined else {}
            joined.append(tuple(sorted({**before, **dict(candidate)}.items())))
        if not joined:
            return
        self.compare(joined)
        for candidate in joined:
            if not self.can_be_chosen(candidate) or not self.is_faster(candidate):
                continue
            if self.chosen == self.reference or self.is_faster(candidate, self.chosen):
                self.chosen = candidate

    def _winners(self) -> list[Changes]:
        """The fastest change of every field, the largest gain first."""
        best: dict[str, Changes] = {}
        for candidate in self.candidates():
            changed = set(candidate) - set(self.reference)
            if not self.can_be_chosen(candidate) or not self.is_faster(candidate):
                continue
            name = MICRO if MICRO in dict(changed) else "".join(dict(changed))
            rival = best.get(name)
            if rival is None or median(self.ratios(candidate)) < median(self.ratios(rival)):
                best[name] = candidate
        return sorted(best.values(), key=lambda candidate: median(self.ratios(candidate)))

    def candidates(self) -> list[Changes]:
        """Everything that was measured but the reference, in order."""
        listed = dict.fromkeys(c for results in self.measured for c in results)
        return [candidate for candidate in listed if candidate != self.reference]


def _is_clear(ratios: Sequence[float]) -> bool:
    """Whether ratios show a gain: a median of at least `GAIN`, and a one-sided sign test."""
    if not ratios or median(ratios) > 1 - GAIN:
        return False
    count = len(ratios)
    faster = sum(ratio < 1 for ratio in ratios)
    ways = sum(math.comb(count, k) for k in range(faster, count + 1))
    return ways <= CHANCE * 2**count
