"""The loss of an optimizer step, Eq. 1, 2 and TLA: token sums, counts, a coefficient per task.

With `S_t` the summed loss and `n_t` the number of valid tokens of task t **over one optimizer
step** (all accumulation micro-batches, all ranks), every method of the paper is `loss = sum_t c_t *
S_t`:

| method | c_t |
|---|---|
| EW, Eq. 1 | `1 / sum n` |
| VITW, Eq. 2 | `w_t / sum_s w_s n_s` (`normalizer: weights`), `w_t / sum n` (`: tokens`) |
| TLA | `1 / (K n_t)`, K = tasks present in the step |

The counts need labels and task ids only, so the coefficients are known before the first forward
pass and gradients accumulate exactly. Dividing inside each micro-batch instead would cancel the
weight wherever a micro-batch holds a single task; the normalizer `per_device` does so, to compare
with the published code.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORED = -100  # label of a token that carries no loss
Normalizer = Literal["weights", "tokens", "per_device"]


def predicting(labels: Int[Tensor, "row position"]) -> Bool[Tensor, "row position"]:
    """True at positions whose next token is valid, that is, has a label."""
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, :-1] = labels[:, 1:] != IGNORED
    return mask


def token_tasks(
    labels: Int[Tensor, "row position"], task_ids: Int[Tensor, " row"] | Int[Tensor, "row position"]
) -> Int[Tensor, " token"]:
    """Task of every valid token, row after row.

    Args:
        labels: as the model gets them.
        task_ids: one per row, or one per position where rows of several tasks are packed.
    """
    assert task_ids.shape in (labels.shape[:1], labels.shape), f"{task_ids.shape}, {labels.shape}"
    per_position = task_ids if task_ids.dim() == 2 else task_ids[:, None].expand_as(labels)
    # Of the token that is predicted, not of the position that predicts it.
    return per_position[:, 1:][labels[:, 1:] != IGNORED]


def token_counts(
    labels: Int[Tensor, "row position"],
    task_ids: Int[Tensor, " row"] | Int[Tensor, "row position"],
    tasks: int,
) -> Int[Tensor, " task"]:
    """`n_t`: number of valid tokens of every task in a batch."""
    tasks_of = token_tasks(labels, task_ids)
    zeros = torch.zeros(tasks, dtype=torch.long, device=labels.device)
    return zeros.index_add_(0, tasks_of, torch.ones_like(tasks_of))


def token_losses(
    logits: Float[Tensor, "token word"], targets: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """Negative log-likelihood of every valid token, in float32 or what is wider."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(wide), targets, reduction="none")


def token_level(
    counts: Int[Tensor, " task"],
    weights: Float[Tensor, " task"],
    normalizer: Normalizer = "weights",
) -> Float[Tensor, " task"]:
    """Coefficients of VITW, Eq. 2; with equal weights those of EW, Eq. 1.

    `weights` divides by the weighted count, which keeps the scale of EW whatever tasks a step
    holds; `tokens` divides by the plain count, as most trainers do, so that the scale follows the
    step's mean weight. `per_device` is the form of `weights` for counts of one micro-batch on one
    rank alone.
    """
    counts = counts.to(weights.dtype)
    total = counts.sum() if normalizer == "tokens" else (weights * counts).sum()
    return weights / total.clamp_min(torch.finfo(weights.dtype).tiny) * (total > 0)


def task_level(counts: Int[Tensor, " task"]) -> Float[Tensor, " task"]:
    """Coefficients of TLA: the mean within each task, then over the tasks present in the step."""
    present = counts > 0
    return present / (present.sum().clamp_min(1) * counts.clamp_min(1)).float()


def weighted_sum(
    losses: Float[Tensor, " token"],
    tasks_of: Int[Tensor, " token"],
    coefficients: Float[Tensor, " task"],
) -> Float[Tensor, ""]:
    """`sum_t c_t S_t` over the tokens of a micro-batch; its sum over a step is the step's loss."""
    return (losses * coefficients[tasks_of]).sum()


def task_sums(
    losses: Float[Tensor, " token"], tasks_of: Int[Tensor, " token"], tasks: int
) -> Float[Tensor, " task"]:
    """`S_t`: summed, unweighted loss of every task, detached, for logs and dynamic methods."""
    sums = torch.zeros(tasks, dtype=losses.dtype, device=losses.device)
    return sums.index_add_(0, tasks_of, losses.detach())
