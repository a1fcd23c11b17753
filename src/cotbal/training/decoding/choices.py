"""The most likely of the options of a question.

The log-likelihood of an option is that of its tokens and of the end of the turn behind them, under
the chat template: what the model would have to write to give exactly this answer.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cotbal.data.batches.choices import Continuation, Offered
from cotbal.data.batches.collate import Batch
from cotbal.data.batches.prefixes import Prompt
from cotbal.loss import IGNORED
from cotbal.recipe.mixture import Choose
from cotbal.training.decoding.prefill import Computed, computed_prefixes, on_device


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of an option.

    Attributes:
        total: sum over its tokens.
        tokens: their number.
    """

    total: float
    tokens: int

    def by(self, choose: Choose | None) -> float:
        """Sum or mean."""
        if choose == "mean":
            return self.total / self.tokens
        return self.total


@dataclass(frozen=True)
class Chooser:
    """Answers of a model that computes every image and every question once for all options.

    Attributes:
        size: questions, and then options, that are computed at a time.
    """

    model: Any
    size: int

    def __call__(self, batch: Offered) -> Iterator[tuple[list[Prompt], list[str]]]:
        """Some questions, at most `size`, and their answers, until all are answered."""
        asked = batch.questions
        prefixes = computed_prefixes(self.model, asked)
        for start in range(0, len(asked.prompts), self.size):
            part = slice(start, start + self.size)
            questions = prefixes.rows(asked.prefix_of[part])
            if part.stop >= len(asked.prompts):
                del prefixes  # keys and values take much memory: none longer than needed
            questions.extend(self.model, asked.suffixes[part], kept=1)
            values = self._likelihoods(questions, batch.options[part])
            yield asked.prompts[part], most_likely(asked.prompts[part], values)

    def _likelihoods(
        self, questions: Computed, options: Sequence[Sequence[Continuation]]
    ) -> list[Likelihood]:
        """Of all options, in their order."""
        owners: list[int] = []
        offers: list[Continuation] = []
        for number, some in enumerate(options):
            owners += [number] * len(some)
            offers += some
        values: list[Likelihood] = []
        for start in range(0, len(offers), self.size):
            part = slice(start, start + self.size)
            rows = questions.rows(owners[part])
            values += self._of_rows(rows, offers[part])
        return values

    def _of_rows(self, rows: Computed, offers: Sequence[Continuation]) -> list[Likelihood]:
        inputs = [offer.ids for offer in offers]
        width = max(map(len, inputs))
        labels: list[list[int]] = []
        for offer in offers:
            padding = [IGNORED] * (width - len(offer.labels))
            labels.append(padding + offer.labels)
        logits = rows.extend(self.model, inputs, kept=width)
        return _likelihoods(logits, torch.tensor(labels, device=logits.device))


@torch.inference_mode()
def likelihoods(model: Any, batch: Batch) -> list[Likelihood]:
    """Of every row of a batch as in training."""
    inputs = {key: on_device(model, value) for key, value in batch.items()}
    labels = inputs.pop("labels")
    first = int((labels != IGNORED).any(0).nonzero()[0])
    kept = labels.shape[1] - first + 1  # the first label is predicted one position before it
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs["logits_to_keep"] = kept
    logits = model(**inputs).logits[:, -kept:]
    return _likelihoods(logits[:, :-1], labels[:, first:])


@torch.inference_mode()
def _likelihoods(logits: Tensor, labels: Tensor) -> list[Likelihood]:
    """Of the labels of every row, [row, position]."""
    valid = labels != IGNORED
    precision = torch.promote_types(logits.dtype, torch.float32)
    chosen = logits[valid].to(precision)
    losses = cross_entropy(chosen, labels[valid], reduction="none")
    counts = valid.sum(1).tolist()
    values: list[Likelihood] = []
    for losses_of_option in torch.split(losses.cpu(), counts):
        total = -float(losses_of_option.sum())
        values.append(Likelihood(total, len(losses_of_option)))
    return values


def most_likely(asked: Sequence[Prompt], values: Sequence[Likelihood]) -> list[str]:
    """The option of every question whose value is the largest, the first of equal ones."""
    texts: list[str] = []
    rest = iter(values)
    for prompt in asked:
        best = prompt.row.options[0]
        highest = -math.inf
        for option in prompt.row.options:
            value = next(rest).by(prompt.row.choose)
            if value > highest:
                best = option
                highest = value
        texts.append(best)
    return texts
