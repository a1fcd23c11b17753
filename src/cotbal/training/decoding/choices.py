"""The most likely of the options of a question.

The log-likelihood of an option is that of its tokens and of the end of the turn behind them, under
the chat template: what the model would have to write to give exactly this answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cotbal.data.batches.choices import Continuation, Offered
from cotbal.data.batches.collate import Batch
from cotbal.data.batches.prefixes import Prompt
from cotbal.loss import IGNORED
from cotbal.training.decoding.prefill import Computed, computed_prefixes, on_device

Likelihood = tuple[float, int]  # sum over the tokens of an option, and their number


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
        owners = [number for number, some in enumerate(options) for _ in some]
        offers = list(chain(*options))
        values: list[Likelihood] = []
        for start in range(0, len(offers), self.size):
            part = slice(start, start + self.size)
            values += self._of_rows(questions.rows(owners[part]), offers[part])
        return values

    def _of_rows(self, rows: Computed, offers: Sequence[Continuation]) -> list[Likelihood]:
        width = max(len(offer.ids) for offer in offers)
        logits = rows.extend(self.model, [offer.ids for offer in offers], kept=width)
        labels = [[IGNORED] * (width - len(o.labels)) + o.labels for o in offers]
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
    """Sum and number of the labels of every row, [row, position]."""
    valid = labels != IGNORED
    precision = torch.promote_types(logits.dtype, torch.float32)
    losses = cross_entropy(logits[valid].to(precision), labels[valid], reduction="none")
    sums = losses.new_zeros(len(labels))
    sums.index_add_(0, valid.nonzero()[:, 0], losses)
    return list(zip((-sums).tolist(), valid.sum(1).tolist(), strict=True))


def most_likely(asked: Sequence[Prompt], values: Sequence[Likelihood]) -> list[str]:
    """The option of every question whose value is the largest, the first of equal ones."""
    texts = []
    rest = iter(values)
    for prompt in asked:
        options = prompt.row.options
        scores = [_score(next(rest), prompt.row.choose == "mean") for _ in options]
        texts.append(options[scores.index(max(scores))])
    return texts


def _score(value: Likelihood, mean: bool) -> float:
    total, tokens = value
    return total / tokens if mean else total
