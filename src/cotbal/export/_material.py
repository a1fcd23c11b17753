"""The tasks of a recipe with their weights, records and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cotbal.data.files import default_cache
from cotbal.data.reading.records import Records, open_records
from cotbal.data.sampling import Portioned
from cotbal.errors import CotbalError
from cotbal.export import Order
from cotbal.jobs.inputs import TOKEN_SAMPLE, open_inputs
from cotbal.jobs.sampling import sampling_of
from cotbal.jobs.weigh import task_weights
from cotbal.recipe.mixture import TRAIN
from cotbal.recipe.ratios import mean_one
from cotbal.recipe.recipe import Recipe
from cotbal.scores.weights_file import read_weights


@dataclass(frozen=True)
class Part:
    """One task of the mixture.

    Attributes:
        name: of the task.
        weight: as in the file; the mean over the units is 1.
        sampling: ratio that the recipe samples its records by, 1 where it shows each once.
        records: its training file.
        portioned: the kept records, in the order of the portions.
        length: mean length of a record's answers that carry loss, in units of `Material.counted`.
    """

    name: str
    weight: float
    sampling: float
    records: Records
    portioned: Portioned
    length: float

    @property
    def size(self) -> int:
        """Number of kept records."""
        return len(self.portioned.indices)


@dataclass(frozen=True)
class Material:
    """All tasks of a recipe that have training data.

    Attributes:
        parts: the tasks, in the order of the recipe.
        counted: `tokens` (valid ones), or `characters` where the recipe's model has no tokenizer
            here.
    """

    recipe: Recipe
    parts: tuple[Part, ...]
    counted: Literal["tokens", "characters"]

    @property
    def weights(self) -> dict[str, float]:
        """Task -> weight as in the file."""
        return {part.name: part.weight for part in self.parts}

    @property
    def loss_weights(self) -> dict[str, float]:
        """Task -> weight whose mean over the answers that are shown is 1."""
        shown = self.sampled
        answers = {part.name: shown[part.name] * part.size * part.length for part in self.parts}
        return mean_one(self.weights, answers)

    @property
    def sampled(self) -> dict[str, float]:
        """Task -> repetitions of its records by the recipe alone, whose mean over the records is 1;
        for trainers with weights.
        """
        return self._repetitions({part.name: part.sampling for part in self.parts})

    @property
    def copies(self) -> dict[str, float]:
        """Task -> repetitions of its records that stand for its weight too, whose mean over the
        records is 1; for trainers without weights.
        """
        return self._repetitions({part.name: part.weight * part.sampling for part in self.parts})

    def _repetitions(self, wanted: Mapping[str, float]) -> dict[str, float]:
        return mean_one(wanted, {part.name: float(part.size) for part in self.parts})

    def marked(self) -> str | None:
        """The first record with an answer that carries no loss, for messages."""
        for part in self.parts:
            for number in part.records.silent():
                return f"task {part.name}: {part.records.source}, record {number}"
        return None

    def table(self, column: str, values: Mapping[str, float]) -> str:
        """A Markdown table of the tasks; `column` is the heading of `values`."""
        rows = [
            f"| {p.name} | {p.size} | {p.weight:.4f} | {values[p.name]:.4f} |" for p in self.parts
        ]
        return "\n".join([f"| task | records | weight | {column} |", "|---|---|---|---|", *rows])


def open_material(order: Order) -> Material:
    """The tasks of an order with their weights, records and lengths.

    Raises:
        CotbalError: there are no weights, they do not fit the recipe, or the data is invalid.
    """
    path = order.weights or order.run.weights
    if not path.exists():
        raise CotbalError(
            f"{path}: expected weights, found none; run `cotbal balance` first, or give --weights",
            "missing-weights",
        )
    weights = task_weights(order.recipe.mixture, read_weights(path))
    inputs = open_inputs(order.recipe)
    sampling = sampling_of(order.recipe, inputs.sizes) or {}
    parts = []
    for task in order.recipe.mixture.trained:
        records = open_records(task.files[TRAIN], default_cache())
        portioned = inputs.portions[task.name]
        length = (
            inputs.tokens[task.name] if inputs.tokens else _characters(records, portioned.indices)
        )
        ratio = sampling.get(task.name, 1.0)
        parts.append(Part(task.name, weights[task.name], ratio, records, portioned, length))
    return Material(order.recipe, tuple(parts), "tokens" if inputs.tokens else "characters")


def _characters(records: Records, indices: np.ndarray) -> float:
    sample = indices[:: max(1, len(indices) // TOKEN_SAMPLE)]
    texts = [records[int(i)].learnt for i in sample]
    return float(np.mean([len("".join(answers)) for answers in texts]))
