"""TaskWeightedTrainer: the Hugging Face Trainer with a weighted loss that no layout of the batch
can change.

    trainer = TaskWeightedTrainer(
        model=model, args=args, train_dataset=rows,
        data_collator=with_task_ids(collator, tasks), tasks=tasks, weighting=weights,
    )

Every row carries the name of its task in the field `task`; `with_task_ids` turns the names into ids
after the collator has done its work, since collators drop what they do not know.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer

from cotbal.data.batches.packing import MASKED_ROWS
from cotbal.errors import CotbalError
from cotbal.loss import (
    Normalizer,
    predicting,
    task_level,
    task_sums,
    token_counts,
    token_level,
    token_tasks,
    weighted_sum,
)
from cotbal.training.trainers.checkpoints import ExactCheckpoints
from cotbal.training.trainers.forward import OURS, refuse_added_tokens, valid_token_losses
from cotbal.training.trainers.observer import Observation, Observer
from cotbal.training.trainers.self_check import SelfCheck, check_weights
from cotbal.training.trainers.step import Step, TaskLosses
from cotbal.weightings import Weighting, checked, fixed_weights

TASK, TASK_IDS = "task", "task_ids"  # of a row, of a batch
Batch = dict[str, Any]

logger = logging.getLogger(__name__)


def with_task_ids(
    collator: Callable[[list[Any]], Batch], tasks: Sequence[str]
) -> Callable[[list[Any]], Batch]:
    """A collator that does what `collator` does and adds `task_ids` (int64, one per row) from the
    rows' field `task`.

    Rows of which none has the field are collated alone: enough to evaluate, and refused in
    training.

    Raises (when called):
        CotbalError: a row has a task that is not in `tasks`, or none beside rows that have; there
            is no default.
    """
    return partial(_collate, collator, tuple(tasks))


def _collate(
    collator: Callable[[list[Any]], Batch], tasks: tuple[str, ...], rows: list[Any]
) -> Batch:
    # No closure: where workers of a data loader are not forked, the collator is sent to them.
    if not any(TASK in row for row in rows):
        return collator(rows)
    names = [row.get(TASK) for row in rows]
    unknown = sorted({str(name) for name in names if name not in tasks})
    if unknown:
        raise CotbalError(
            f"every row needs a field `task` with one of {', '.join(tasks)}; found"
            f" {', '.join(unknown)}"
        )
    batch = collator([without(row, TASK) for row in rows])
    return {**batch, TASK_IDS: torch.tensor([tasks.index(name) for name in names])}


def without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The row without these fields."""
    return {key: value for key, value in row.items() if key not in keys}


class TaskWeightedTrainer(ExactCheckpoints):
    """A Trainer whose loss is `sum_t c_t S_t` with the coefficients of one whole optimizer step
    (see `cotbal.loss`).

    Args beyond those of `transformers.Trainer`:
        tasks: names of the tasks, in the order of the task ids.
        weighting: task -> weight, or a `cotbal.weightings.Weighting`, which receives the unweighted
            losses of every optimizer step, over all ranks, and whose state is part of the
            checkpoint.
        normalizer: `weights` or `tokens`, see `cotbal.loss.token_level`: with the first the weights
            do nothing in a step that holds a single task, and a training of such steps says so in
            its log. Or `per_device`, which divides inside each micro-batch on each rank and
            averages over those, as the published code does. With it the update depends on how the
            batch is cut, and the weights do nothing where a micro-batch holds one task: for
            comparison only.

    Before the first step it checks on a real batch that a changed weight changes the gradient as
    predicted (`self_check` holds the result). The check is left out, with a line in the log, where
    it cannot be made: with `per_device`, and with parameters that are sharded over ranks otherwise
    than by accelerate's FSDP2 or DeepSpeed.

    Raises:
        CotbalError: the combination of arguments would lose the weights (label smoothing, a loss
            function of the caller's, a fused loss, prompt tuning, several GPUs in one process
            without a launcher, sequence or context parallelism).
    """

    def __init__(
        self,
        *args: Any,
        tasks: Sequence[str],
        weighting: Weighting | Mapping[str, float],
        normalizer: Normalizer = "weights",
        **kwargs: Any,
    ) -> None:
        if isinstance(weighting, Mapping):
            weighting = fixed_weights(tasks, weighting)
        _refuse(
            {**inspect.signature(Trainer).bind_partial(*args).arguments, **kwargs}
        )  # by name, wherever they stand
        super().__init__(*args, **kwargs)
        self.tasks = tuple(tasks)
        self.weighting = weighting
        self.normalizer: Normalizer = normalizer
        self.self_check: SelfCheck | None = None
        self.loss_is_scaled_for_ga = (
            True  # our coefficients already cover the whole accumulation window
        )
        self.model_accepts_loss_kwargs = False  # the model must not divide a second time
        self._refuse_layout()
        self._step = Step.none(len(self.tasks))
        self._loss_only = False  # whether an evaluation asks for nothing but the loss
        self._check_is_due = True
        self._since_log = TaskLosses(self.tasks)
        # First of all callbacks, so that those of the caller find the step observed.
        observer = Observer(
            weighting, self.tasks, self._finish_step, cancels=normalizer == "weights"
        )
        self.callback_handler.callbacks.insert(0, observer)

    def _refuse_layout(self) -> None:
        if self.args.n_gpu > 1:
            raise CotbalError(
                f"expected one GPU per process, found {self.args.n_gpu}: start with `torchrun` or"
                " `accelerate launch`, or set CUDA_VISIBLE_DEVICES to one device"
            )
        if self.get_sp_size() * self.get_cp_size() > 1:
            raise CotbalError(
                "sequence and context parallelism split the labels of a row; not supported yet"
            )
        refuse_added_tokens(self.model)
        self.args.remove_unused_columns = (
            False  # or the Trainer would drop the task before the collator sees it
        )
        self._signature_columns = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], None]:
        """Fetch the micro-batches of one optimizer step and fix its coefficients, over all
        ranks."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        found = torch.zeros(
            len(self.tasks) + 1, dtype=torch.long, device=device
        )  # tokens per task, and masked rows
        for batch in batches:
            labels, task_ids = batch["labels"].to(device), _task_ids(batch).to(device)
            found[:-1] += token_counts(labels, task_ids, len(self.tasks))
            found[-1] += batch.get(MASKED_ROWS, (~predicting(labels).any(dim=1)).sum())
        found = self._over_ranks(found).cpu()
        counts, weights = found[:-1], self.current_weights()
        nothing = torch.zeros(len(self.tasks), device=device)
        self._step = Step(
            counts,
            int(found[-1]),
            weights,
            self.coefficients(counts, weights),
            len(batches),
            sums=nothing,
        )
        if self._check_is_due:
            self._check(batches, self._step)
        return batches, None

    def _check(self, batches: list[Batch], step: Step) -> None:
        if reason := self._cannot_be_checked():
            self._check_is_due = False
            if self.is_world_process_zero():
                logger.warning("the self-check of the weights is left out: %s", reason)
            return

        def trainer_loss(batch: Batch, coefficients: Tensor) -> Tensor:
            self._step = replace(step, coefficients=coefficients)
            loss: Tensor = self.compute_loss(self.model, batch)
            return loss / self._ranks

        def coefficients(task: int, factor: float) -> Tensor:
            only = torch.ones(len(self.tasks))
            only[task] = factor
            if self.weighting.average == "task":  # has no weights to change: change its coefficient
                return step.coefficients * only
            return self.coefficients(step.counts, step.weights * only)

        inputs = [self._prepare_inputs(batch) for batch in batches]
        with self.accelerator.autocast():  # as the model's forward does in training
            together = self._over_ranks if self.sharded else None
            self.self_check = check_weights(
                self.model, inputs, trainer_loss, coefficients, self.tasks, together
            )
        self._step = step
        step.sums.zero_()  # the check is no training: nothing of it may be observed
        self._check_is_due = (
            self.self_check is None
        )  # a step with a single task says nothing: look at the next one

    def _cannot_be_checked(self) -> str | None:
        if self.normalizer == "per_device":
            return (
                "with the normalizer per_device the effect of a weight depends on the micro-batch"
            )
        if self.sharded and not (self.by_fsdp2 or self.zero_stage):
            return "the parameters are sharded over ranks"
        return None

    def _over_ranks(self, values: Tensor) -> Tensor:
        """Sum over data-parallel ranks."""
        total = self.accelerator.reduce(values, reduction="sum")
        copies = self.get_tp_size()  # ranks of one tensor-parallel group hold the same rows
        return total // copies if not total.is_floating_point() else total / copies

    @property
    def _ranks(self) -> int:
        """Data-parallel ranks over which gradients are averaged."""
        return int(self.accelerator.num_processes // self.get_tp_size())

    def current_weights(self) -> Tensor:
        """Weight of every task at this optimizer step, float32."""
        weights = checked(self.weighting.weights(self.state.global_step), len(self.tasks))
        return torch.as_tensor(weights, dtype=torch.float32)

    def coefficients(self, counts: Tensor, weights: Tensor) -> Tensor:
        """`c_t` for these counts of valid tokens, see `cotbal.loss`."""
        if self.weighting.average == "task":
            return task_level(counts)
        return token_level(counts, weights.to(counts.device), self.normalizer)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This micro-batch's part of the loss of the step; outside a training step, the EW loss of
        the batch.
        """
        if not model.training:
            loss, outputs = self._evaluated(model, inputs)
            return (loss, outputs) if return_outputs else loss
        labels, task_ids = inputs["labels"], _task_ids(inputs)
        outputs, losses = self._token_losses(model, inputs)
        tasks_of = token_tasks(labels, task_ids)
        self._step.sums.add_(task_sums(losses, tasks_of, len(self.tasks)))
        coefficients = self._of_micro_batch(token_counts(labels, task_ids, len(self.tasks)))
        loss = weighted_sum(losses, tasks_of, coefficients.to(losses.device))
        return (loss, outputs) if return_outputs else loss

    def _evaluated(self, model: nn.Module, inputs: Batch) -> tuple[Tensor, Any]:
        """The EW loss of a batch, and outputs whose logits stand for all positions, unless nobody
        will see them.
        """
        mask = predicting(inputs["labels"])
        outputs, losses = valid_token_losses(model, inputs, mask, whole=not self._loss_only)
        return losses.mean() if len(losses) else losses.sum(), outputs

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> Any:
        """The Trainer's, for `evaluate` and `predict`; the model sees nothing of ours."""
        plain = {key: value for key, value in inputs.items() if key == "labels" or key not in OURS}
        self._loss_only = prediction_loss_only
        try:
            return super().prediction_step(model, plain, prediction_loss_only, ignore_keys)
        finally:
            self._loss_only = False

    def _token_losses(self, model: nn.Module, inputs: Batch) -> tuple[Any, Tensor]:
        """The model's outputs, and the loss of every valid token, row after row; a trainer may have
        its own way.
        """
        return valid_token_losses(model, inputs, predicting(inputs["labels"]))

    def _of_micro_batch(self, counts: Tensor) -> Tensor:
        """Coefficients of a micro-batch with these counts, before its gradient is averaged over
        ranks.
        """
        if self.normalizer == "per_device":
            return self.coefficients(counts, self._step.weights) / self._step.micro_batches
        return (
            self._step.coefficients * self._ranks
        )  # the loss of a step is a sum over ranks, not their mean

    def _finish_step(self) -> Observation:
        """Close the books of an optimizer step: its mean losses and counts over all ranks."""
        step = self._step
        sums = self._over_ranks(step.sums).cpu()
        self._since_log.add(sums, step.counts, step.weights, step.masked_rows)
        absent = step.counts == 0
        means = (sums / step.counts.clamp_min(1)).masked_fill(absent, torch.nan)
        return means.numpy().astype(np.float64), step.counts.numpy()

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Add what happened since the last log, over all ranks: plain numbers, so that trackers can
        show them.

        `task_losses/<task>` are unweighted means over the valid tokens and `task_tokens/<task>`
        their numbers, where there were any; `weights/<task>` are those of the last step, as it used
        them; `mean_weight` is the mean weight of a valid token; `masked_rows` had none.
        """
        if "loss" in logs:
            logs |= self._since_log.take(self._step.weights)
        super().log(logs, *args, **kwargs)


def _refuse(kwargs: Mapping[str, Any]) -> None:
    if kwargs.get("compute_loss_func") is not None:
        raise CotbalError("compute_loss_func would replace the weighted loss; leave it out")
    args = kwargs.get("args")
    if args is not None and args.label_smoothing_factor:
        raise CotbalError(
            "label smoothing is not defined for the weighted loss; set label_smoothing_factor to 0"
        )
    if args is not None and args.use_liger_kernel:
        fused = {"fused_linear_cross_entropy": True, **(args.liger_kernel_config or {})}
        if fused["fused_linear_cross_entropy"]:
            raise CotbalError(
                "use_liger_kernel replaces the forward pass by one that makes the loss without"
                " logits, and the weights would be lost; set"
                ' liger_kernel_config={"fused_linear_cross_entropy": False}'
            )


def _task_ids(batch: Batch) -> Tensor:
    if TASK_IDS not in batch:
        raise CotbalError(
            f"expected the field {TASK_IDS!r} in every training batch, found {', '.join(batch)}:"
            " wrap the collator with `with_task_ids(collator, tasks)`, and give every training row"
            f" its field {TASK!r}"
        )
    ids: Tensor = batch[TASK_IDS]
    labels = batch["labels"]
    if ids.shape not in (labels.shape[:1], labels.shape):
        raise CotbalError(
            f"expected {TASK_IDS!r} of shape {list(labels.shape[:1])} (one per row) or"
            f" {list(labels.shape)} (one per token); found {list(ids.shape)}"
        )
    return ids
