"""The settings that are tried, and what each of them may change in a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

MICRO = "optimization.micro_batch_size"
PACKING = "optimization.packing"
CHECKPOINTING = "model.gradient_checkpointing"
COMPILE = "model.compile"
DTYPE = "model.dtype"
WORKERS = "resources.dataloader_workers"
THREADS = "threads"  # an option of commands, no field of the recipe

Value = bool | int | str
Changes = tuple[tuple[str, Value], ...]  # field -> value, sorted; none: the recipe as it is
Effect = Literal["none", "rounding", "numbers"]
OWN: Changes = ()

EFFECTS: Mapping[str, Effect] = {
    MICRO: "rounding",
    PACKING: "rounding",
    CHECKPOINTING: "none",
    COMPILE: "rounding",
    DTYPE: "numbers",
    WORKERS: "none",
    THREADS: "rounding",
}
KINDS = {field.rpartition(".")[2]: field for field in EFFECTS}  # name of a kind -> its field
# Batches must take this fraction of a step, or processes that make them could not save 3 % of it.
WAITING = 0.03


@dataclass(frozen=True)
class Space:
    """Settings to choose among, and what limits the choice.

    Attributes:
        values: the recipe's own value of every field.
        share: records of an optimizer step and process.
        cores: that this command may use.
        gpu: whether a run has one.
        alone: whether a run is one process.
        by_micro_batch: whether the loss depends on how a step is divided (`per_device`).
        compiles: whether `model.compile` is supported for this recipe.
        without: fields that are not tried.
    """

    values: Mapping[str, Value]
    share: int
    cores: int
    gpu: bool = False
    alone: bool = True
    by_micro_batch: bool = False
    compiles: bool = True
    without: frozenset[str] = frozenset()

    def at(self, changes: Changes) -> Space:
        """The same around other values."""
        return replace(self, values={**self.values, **dict(changes)})

    def changed(self, before: Changes, field: str, value: Value) -> Changes:
        """The changes with one more. A field that gets the recipe's own value is left out."""
        after = {**dict(before), field: value}
        return tuple(sorted((k, v) for k, v in after.items() if v != self.values[k]))

    def next_size(self, size: int, up: bool) -> int | None:
        """The next micro-batch, about twice as large or half as large, that divides a step; None
        if there is none, or if another one would be another training.
        """
        if self.by_micro_batch or MICRO in self.without:
            return None
        sizes = [n for n in range(1, self.share + 1) if self.share % n == 0]
        if up:
            return next((n for n in sizes if n >= 2 * size), None)
        return next((n for n in reversed(sizes) if 2 * n <= size), None)

    def fallbacks(self) -> list[Changes]:
        """What to try, in this order, if the recipe's own settings need too much memory."""
        smaller: list[Changes] = []
        size: int | None = int(self.values[MICRO])
        while size is not None and (size := self.next_size(size, up=False)):
            smaller.append(((MICRO, size),))
        if self.values[CHECKPOINTING] or CHECKPOINTING in self.without:
            return smaller
        recomputed = ((CHECKPOINTING, True), *(smaller[-1] if smaller else ()))
        return [*smaller, tuple(sorted(recomputed))]

    def candidates(self, waiting: float) -> list[tuple[str, Value]]:
        """Single changes that may save time.

        Args:
            waiting: fraction of a step in which the training waits for its batches.
        """
        size = int(self.values[MICRO])
        sizes = (self.next_size(size, up=True), self.next_size(size, up=False))
        listed: list[tuple[str, Value]] = [(MICRO, n) for n in sizes if n is not None]
        if self.values[PACKING] or size > 1:  # the records of a micro-batch share rows
            listed.append((PACKING, not self.values[PACKING]))
        if self.values[CHECKPOINTING]:
            listed.append((CHECKPOINTING, False))
        listed += [(WORKERS, count) for count in self._workers(waiting)]
        listed += [(THREADS, count) for count in self._threads()]
        listed += [(DTYPE, dtype) for dtype in self._dtypes()]
        if self.compiles:
            listed.append((COMPILE, not self.values[COMPILE]))
        return [change for change in listed if change[0] not in self.without]

    def _dtypes(self) -> list[str]:
        """The other one; float32 is never faster on a GPU."""
        if self.values[DTYPE] == "float32":
            return ["bfloat16"]
        return [] if self.gpu else ["float32"]

    def _workers(self, waiting: float) -> list[int]:
        """More processes that make batches, beside the one that trains, if it waits for them."""
        if waiting < WAITING:
            return []
        count = int(self.values[WORKERS])
        more = 2 * count if count else min(2, self.cores - 1)
        return [more] if count < more <= self.cores else []

    def _threads(self) -> list[int]:
        """All cores, and half as many threads."""
        if self.gpu or not self.alone:
            return []
        count = int(self.values[THREADS])
        half = [count // 2] if count > 1 else []
        return [*half, self.cores] if self.cores > count else half


def named(changes: Changes) -> str:
    """Changes as a user gives them to a command; `recipe` for none."""
    texts = [f"{field}={_written(value)}" for field, value in changes if field != THREADS]
    texts += [f"--threads {value}" for field, value in changes if field == THREADS]
    return " ".join(texts) or "recipe"


def overrides(changes: Changes) -> list[str]:
    """The changes of the recipe, as `load_recipe` takes them."""
    return [f"{field}={_written(value)}" for field, value in changes if field != THREADS]


def _written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
