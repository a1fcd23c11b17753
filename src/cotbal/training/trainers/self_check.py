"""Start-of-run self-check: a changed weight must change the gradient as predicted.

Trainers lose weights silently: a dropped column, a flag left at its default, a denominator that
cancels them. The check runs the trainer's loss twice on real rows, the second time with the weight
of one task changed, and compares the change of the gradient with a prediction that does not use
the trainer's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cotbal.errors import CotbalError
from cotbal.loss import predicting, token_counts, token_losses, token_tasks
from cotbal.training.trainers.forward import for_model, logits_of, low_precision, without_dropout
from cotbal.training.trainers.head import ChunkedHead
from cotbal.training.trainers.trained_weights import size_of

FACTOR = 4.0  # of the changed weight: large, so that the change is larger than rounding
TOLERANCE = 0.02  # relative, float32; lost weights give 1
# bfloat16: gradients agree to about 0.01, their difference to several times that.
LOW_PRECISION_TOLERANCE = 0.25
FLOOR = 0.05  # relative to the gradient: a smaller predicted change cannot be checked
MICRO_BATCHES = 4  # at most, so that the check costs about as much as a step
PROBED_VALUES = 2_000_000  # parameters whose gradient is compared, smallest tensors first

Batch = dict[str, Any]
Loss = Callable[[Batch], Tensor]
OverRanks = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SelfCheck:
    """Result of the check.

    Attributes:
        task: the task whose weight was changed.
        predicted: norm of the predicted change of the gradient over the norm of the gradient.
        error: norm of observed minus predicted change over the norm of the predicted change, or
            over `FLOOR` times that of the gradient where the predicted change is smaller still.
    """

    task: str
    predicted: float
    error: float


@dataclass(frozen=True)
class Losses:
    """Two ways from a batch and coefficients per task to `sum_t c_t S_t`.

    Attributes:
        trainer: the loss that the trainer would train.
        stock: a computation that does not use the trainer's.
    """

    trainer: Callable[[Batch, Tensor], Tensor]
    stock: Callable[[Batch, Tensor], Tensor]


def check_weights(
    model: nn.Module,
    batches: Sequence[Batch],
    losses: Losses,
    coefficients: Callable[[int, float], Tensor],
    tasks: Sequence[str],
    over_ranks: OverRanks | None = None,
) -> SelfCheck | None:
    """Compare observed and predicted change of the gradient; None if the rows hold a single task,
    or if the gradient is not finite.

    Args:
        model: without the wrapper of a data-parallel launcher.
        batches: micro-batches on the model's device, with `labels` and `task_ids`.
        coefficients: (task, factor) -> coefficients `c_t` when the weight of the task is multiplied
            by the factor.
        over_ranks: sums over the ranks among which the parameters are sharded (FSDP2, ZeRO-3),
            which check together. None where this rank has all of the model.

    Raises:
        CotbalError: the change is not the predicted one, so the weights would be lost.
    """
    chosen = _mixed(batches) if over_ranks is None else batches[:MICRO_BATCHES]
    present = _tasks_of(chosen, len(tasks), over_ranks)
    if len(present) < 2:
        return None
    changed = present[0]
    before, after = coefficients(changed, 1.0), coefficients(changed, FACTOR)
    with without_dropout(model):
        gradient = _gradient_of(model, chosen, over_ranks)
        predicted = gradient(lambda batch: losses.stock(batch, after - before))
        plain = gradient(lambda batch: losses.trainer(batch, before))
        if not plain.isfinite().all():
            return None  # the step itself reports it, with its task
        observed = gradient(lambda batch: losses.trainer(batch, after)) - plain
    # Where the gradients of tasks agree, no change is predicted and what is left is rounding, so it
    # is compared with the whole gradient.
    scale = torch.maximum(predicted.norm(), FLOOR * plain.norm()).clamp_min(1e-30)
    error = float((observed - predicted).norm() / scale)
    if not error <= (LOW_PRECISION_TOLERANCE if low_precision(model) else TOLERANCE):
        raise CotbalError(
            f"self-check: multiplying the weight of {tasks[changed]} by {FACTOR} should change the"
            f" gradient by {float(predicted.norm()):.3g} (norm); in this training the change"
            f" differs from that by {100 * error:.0f} %. The weights would be lost or distorted, so"
            " the training was not started.",
            "self-check-failed",
        )
    relative = predicted.norm() / plain.norm().clamp_min(1e-30)
    return SelfCheck(tasks[changed], float(relative), error)


def _present(batch: Batch) -> set[int]:
    """Tasks with a valid token in the batch."""
    return set(token_tasks(batch["labels"], batch["task_ids"]).tolist())


def _tasks_of(batches: Sequence[Batch], tasks: int, over_ranks: OverRanks | None) -> list[int]:
    """Tasks with a valid token in some of the batches, on some rank if ranks check together."""
    if over_ranks is None:
        return sorted(set().union(*map(_present, batches)))
    counts = torch.stack(
        [token_counts(batch["labels"], batch["task_ids"], tasks) for batch in batches]
    )
    totals = over_ranks(counts.sum(dim=0))
    numbers: list[int] = totals.nonzero()[:, 0].tolist()
    return numbers


def _mixed(batches: Sequence[Batch]) -> list[Batch]:
    """The first micro-batches that bring a new task."""
    chosen: list[Batch] = []
    seen: set[int] = set()
    for batch in batches:
        tasks = _present(batch)
        if tasks - seen and len(chosen) < MICRO_BATCHES:
            chosen.append(batch)
            seen |= tasks
    return chosen


def _probed(model: nn.Module) -> list[nn.Parameter]:
    trainable = sorted((p for p in model.parameters() if p.requires_grad), key=size_of)
    total = 0
    chosen: list[nn.Parameter] = []
    for parameter in trainable:
        total += size_of(parameter)
        if chosen and total > PROBED_VALUES:
            break
        chosen.append(parameter)
    return chosen


def stock_loss(
    model: nn.Module, head: ChunkedHead | None, batch: Batch, coefficients: Tensor
) -> Tensor:
    """`sum_t c_t S_t` by the stock forward pass, with the stock head on all logits, or on those of
    one chunk after the other.
    """
    mask = predicting(batch["labels"])
    tasks_of = token_tasks(batch["labels"], batch["task_ids"])
    factors = coefficients.to(tasks_of.device)[tasks_of]
    if head is not None:
        return head.loss(model, batch, factors, by_formula=False)[0]
    outputs = model(**for_model(batch))
    targets = batch["labels"][:, 1:][mask[:, :-1]]
    losses = token_losses(logits_of(model, outputs)[mask], targets)
    return (losses * factors.to(losses)).sum()


def _gradient_of(
    model: nn.Module, batches: Sequence[Batch], over_ranks: OverRanks | None
) -> Callable[[Loss], Tensor]:
    """Turns a loss into its gradient over all batches, by the probed parameters, `[value]`.

    Parameters that FSDP2 has sharded get their gradient from a backward pass alone, averaged over
    ranks. Those of ZeRO-3 are whole while they are used, so every rank has the gradient of its own
    batches, to be summed.
    """
    parameters = _probed(model)

    def gradient(loss: Loss) -> Tensor:
        total = torch.stack([_flat(loss(batch), parameters) for batch in batches]).sum(dim=0)
        return total if over_ranks is None else over_ranks(total)

    def averaged_gradient(loss: Loss) -> Tensor:
        for batch in batches:
            torch.autograd.backward(loss(batch))
        values = [_gradient_values(parameter) for parameter in parameters]
        model.zero_grad(set_to_none=True)
        return torch.cat(values)

    sharded = any(isinstance(parameter, DTensor) for parameter in parameters)
    return averaged_gradient if sharded else gradient


def _flat(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    parts = [
        torch.zeros(size_of(p), device=p.device) if g is None else g.flatten().float()
        for g, p in zip(gradients, parameters, strict=True)
    ]
    return torch.cat(parts)


def _gradient_values(parameter: nn.Parameter) -> Tensor:
    """All of the gradient of a parameter of which this rank may hold a part, `[value]`."""
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros(parameter.numel(), device=parameter.device)
    if isinstance(gradient, DTensor):
        gradient = gradient.full_tensor()
    return gradient.flatten().float()
