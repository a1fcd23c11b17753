"""TaskWeightedTrainer: the Hugging Face Trainer with a weighted loss that is the same however a
batch is laid out; docs/tutorials/own-trainer.md shows its use.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate.utils import is_compiled_module
from torch import Tensor, nn
from transformers import Trainer

from cotbal.data.batches.packing import MASKED_ROWS
from cotbal.errors import CotbalError, RunError
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
from cotbal.training.trainers.finite import FiniteGradients
from cotbal.training.trainers.forward import (
    OURS,
    valid_token_losses,
    validate_adapter,
    without_dropout,
)
from cotbal.training.trainers.head import ChunkedHead, find_head
from cotbal.training.trainers.observer import Observation, Observer
from cotbal.training.trainers.operations import CountedOnce
from cotbal.training.trainers.self_check import Losses, SelfCheck, check_weights, stock_loss
from cotbal.training.trainers.step import Step, TaskLosses, diverged
from cotbal.weightings import Weighting, checked, fixed_weights

TASK, TASK_IDS = "task", "task_ids"  # of a row, of a batch
Batch = dict[str, Any]

logger = logging.getLogger(__name__)


def with_task_ids(
    collator: Callable[[list[Any]], Batch], tasks: Sequence[str]
) -> Callable[[list[Any]], Batch]:
    """Wrap a collator so that it adds `task_ids` (int64, one per row) from the rows' field `task`.

    A batch in which no row has the field gets no ids: enough for evaluation, an error in training.

    Raises (when called):
        CotbalError: a row has a task that is not in `tasks`, or no task beside rows that have one.
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
            f" {', '.join(unknown)}",
            "unknown-task",
        )
    batch = collator([without(row, TASK) for row in rows])
    return {**batch, TASK_IDS: torch.tensor([tasks.index(name) for name in names])}


def without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The row without these fields."""
    return {key: value for key, value in row.items() if key not in keys}


class TaskWeightedTrainer(CountedOnce, FiniteGradients):
    """A Trainer with the loss `sum_t c_t S_t` over a whole optimizer step (see `cotbal.loss`).

    Args beyond those of `transformers.Trainer`:
        tasks: names of the tasks, in the order of the task ids.
        weighting: task -> weight, or a `cotbal.weightings.Weighting`. It receives the unweighted
            losses of every optimizer step over all ranks, and its state is part of the checkpoint.
        normalizer: see `cotbal.loss.token_level`. With `weights`, the weights have no effect in a
            step that holds a single task; a training of such steps logs a warning. `per_device`
            divides inside each micro-batch on each rank, as the published code does: the update
            then depends on how the batch is cut, so it is for comparison only.
        chunked_head: compute the head in chunks where the model allows it, which takes less memory
            and time (docs/performance.md). False computes the logits of all valid tokens at once.

    Before the first step it checks on a real batch that a changed weight changes the gradient as
    predicted (`self_check` holds the result). The check is left out, with a warning, where it is
    not supported: with `per_device`, and with parameters that are sharded otherwise than by
    accelerate's FSDP2 or DeepSpeed.

    Raises:
        CotbalError: the arguments would lose the weights (label smoothing, another loss function, a
            fused loss, prompt tuning, several GPUs in one process without a launcher, sequence or
            context parallelism).
    """

    def __init__(
        self,
        *args: Any,
        tasks: Sequence[str],
        weighting: Weighting | Mapping[str, float],
        normalizer: Normalizer = "weights",
        chunked_head: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(weighting, Mapping):
            weighting = fixed_weights(tasks, weighting)
        by_name = inspect.signature(Trainer).bind_partial(*args).arguments
        _validate_arguments({**by_name, **kwargs})
        super().__init__(*args, **kwargs)
        self.tasks = tuple(tasks)
        self.weighting = weighting
        self.normalizer: Normalizer = normalizer
        self.chunked_head = chunked_head
        self.head: ChunkedHead | None = None
        self.self_check: SelfCheck | None = None
        # The coefficients cover all micro-batches of a step: nobody may divide a second time.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = False
        self._validate_layout()
        # Or the Trainer would drop the task before the collator sees it.
        self.args.remove_unused_columns = False
        self._signature_columns = None
        self._step = Step.none(len(self.tasks))
        self._loss_only = False  # whether an evaluation needs the loss alone
        self._head_is_due = self._check_is_due = True
        self._since_log = TaskLosses(self.tasks)
        # First of all callbacks, so that those of the caller find the step observed.
        observer = Observer(
            weighting, self.tasks, self._finish_step, cancels=normalizer == "weights"
        )
        self.callback_handler.callbacks.insert(0, observer)

    def _validate_layout(self) -> None:
        if self.args.n_gpu > 1:
            raise CotbalError(
                f"expected one GPU per process, found {self.args.n_gpu}: start with `torchrun` or"
                " `accelerate launch`, or set CUDA_VISIBLE_DEVICES to one device",
                "unsupported-layout",
            )
        if self.get_sp_size() * self.get_cp_size() > 1:
            raise CotbalError(
                "sequence and context parallelism split the labels of a row: not supported",
                "unsupported-layout",
            )
        validate_adapter(self.model)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], None]:
        """The micro-batches of one optimizer step; fixes its coefficients over all ranks."""
        batches = list(islice(epoch_iterator, num_batches))
        # Valid tokens of every task, and behind them the number of masked rows.
        totals = torch.zeros(len(self.tasks) + 1, dtype=torch.long, device=device)
        for batch in batches:
            labels = batch["labels"].to(device)
            task_ids = _task_ids(batch).to(device)
            totals[:-1] += token_counts(labels, task_ids, len(self.tasks))
            has_loss = predicting(labels).any(dim=1)
            totals[-1] += batch.get(MASKED_ROWS, (~has_loss).sum())
        totals = self._over_ranks(totals).cpu()
        counts, weights = totals[:-1], self.current_weights()
        self._step = Step(
            counts,
            int(totals[-1]),
            weights,
            self.coefficients(counts, weights),
            len(batches),
            sums=torch.zeros(len(self.tasks), device=device),
        )
        if self._head_is_due:
            self.head = self._find_head(batches[0])
            self._head_is_due = False
        if self._check_is_due:
            self._check(batches, self._step)
        return batches, None

    def _find_head(self, batch: Batch) -> ChunkedHead | None:
        """The head in chunks, None where each valid token needs its logits.

        A compiled forward pass would be compiled again for every batch. The other layouts are not
        tested: parameters that are split in other ways than by FSDP2 and DeepSpeed.
        """
        compiled = self.args.torch_compile or is_compiled_module(self.model)
        split = self.sharded and not (self.by_fsdp2 or self.zero_stage)
        if not self.chunked_head or compiled or split or self.get_tp_size() > 1:
            return None
        with self.accelerator.autocast(), without_dropout(self.model):
            return find_head(self.model, self._prepare_inputs(batch))

    def _check(self, batches: list[Batch], step: Step) -> None:
        if reason := self._reason_against_check():
            self._check_is_due = False
            if self.is_world_process_zero():
                logger.warning("the self-check of the weights is left out: %s", reason)
            return

        def trainer_loss(batch: Batch, coefficients: Tensor) -> Tensor:
            self._step = replace(step, coefficients=coefficients)
            loss: Tensor = self.compute_loss(self.model, batch)
            return loss / self._ranks

        def coefficients(task: int, factor: float) -> Tensor:
            factors = torch.ones(len(self.tasks))
            factors[task] = factor
            if self.weighting.average == "task":  # it has no weights that could be changed
                return step.coefficients * factors
            return self.coefficients(step.counts, step.weights * factors)

        losses = Losses(trainer_loss, partial(stock_loss, self.model, self.head))
        inputs = [self._prepare_inputs(batch) for batch in batches]
        with self.accelerator.autocast():  # as the model's forward does in training
            together = self._over_ranks if self.sharded else None
            self.self_check = check_weights(
                self.model, inputs, losses, coefficients, self.tasks, together
            )
        self._step = step
        step.sums.zero_()  # losses of the check must not be observed
        self._check_is_due = self.self_check is None  # a single task: try again at the next step

    def _reason_against_check(self) -> str | None:
        if self.normalizer == "per_device":
            return "with normalizer per_device the effect of a weight depends on the micro-batch"
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
        """The micro-batch's part of the step's loss; outside training, the EW loss of the batch."""
        if not model.training:
            evaluated = self._evaluated(model, inputs)
            return evaluated if return_outputs else evaluated[0]
        labels, task_ids = inputs["labels"], _task_ids(inputs)
        tasks_of = token_tasks(labels, task_ids)
        coefficients = self._of_micro_batch(token_counts(labels, task_ids, len(self.tasks)))
        outputs: Any = None
        if self.head is None or return_outputs:  # whoever reads outputs expects logits in them
            outputs, losses = self._token_losses(model, inputs)
            loss = weighted_sum(losses, tasks_of, coefficients.to(losses.device))
        else:
            factors = coefficients.to(labels.device)[tasks_of]
            loss, losses = self.head.loss(model, inputs, factors)
        sums = task_sums(losses, tasks_of.to(losses.device), len(self.tasks))
        self._step.sums.add_(sums.to(self._step.sums.device))
        return (loss, outputs) if return_outputs else loss

    def _evaluated(self, model: nn.Module, inputs: Batch) -> tuple[Tensor, Any]:
        """The EW loss of a batch, and outputs, with all logits if they are read."""
        mask = predicting(inputs["labels"])
        outputs: Any = {}
        if self._loss_only and self.head is not None:
            ones = torch.ones(int(mask.sum()), device=mask.device)
            losses = self.head.loss(model, inputs, ones)[1]
        else:
            outputs, losses = valid_token_losses(model, inputs, mask, whole=not self._loss_only)
        return losses.mean() if len(losses) else losses.sum(), outputs

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> Any:
        """As the Trainer's; the model gets none of our fields."""
        removed = set(OURS) - {"labels"}
        plain = {key: value for key, value in inputs.items() if key not in removed}
        self._loss_only = prediction_loss_only
        try:
            return super().prediction_step(model, plain, prediction_loss_only, ignore_keys)
        finally:
            self._loss_only = False

    def _token_losses(self, model: nn.Module, inputs: Batch) -> tuple[Any, Tensor]:
        """The model's outputs, and the loss of every valid token, row after row."""
        return valid_token_losses(model, inputs, predicting(inputs["labels"]))

    def _of_micro_batch(self, counts: Tensor) -> Tensor:
        """Coefficients of a micro-batch, before gradients are averaged over ranks."""
        if self.normalizer == "per_device":
            return self.coefficients(counts, self._step.weights) / self._step.micro_batches
        return self._step.coefficients * self._ranks  # the loss of a step is a sum over ranks

    def _diverged(self, what: str, number: int) -> RunError:
        step, sums = self._step, self._over_ranks(self._step.sums).cpu()
        return diverged(what, number, self.tasks, sums, step.counts)

    def _finish_step(self) -> Observation:
        """Mean losses and counts of the finished optimizer step, over all ranks.

        Raises:
            RunError: a loss is not finite.
        """
        step = self._step
        sums = self._over_ranks(step.sums).cpu()
        if not sums.isfinite().all() and not self.accelerator.optimizer_step_was_skipped:
            raise self._diverged(f"loss {float(sums.sum())}", self.state.global_step)
        self._since_log.add(sums, step.counts, step.weights, step.masked_rows)
        absent = step.counts == 0
        means = (sums / step.counts.clamp_min(1)).masked_fill(absent, torch.nan)
        return means.numpy().astype(np.float64), step.counts.numpy()

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Add figures of all ranks since the last log, as plain numbers that trackers can show.

        `task_losses/<task>`: unweighted mean over the valid tokens, `task_tokens/<task>`: their
        number, both where there were any; `weights/<task>`: as the last step used them;
        `mean_weight`: of a valid token; `masked_rows`: rows without a valid token.
        """
        if "loss" in logs:
            logs |= self._since_log.take(self._step.weights)
        super().log(logs, *args, **kwargs)


def _validate_arguments(named: Mapping[str, Any]) -> None:
    if named.get("compute_loss_func") is not None:
        raise CotbalError(
            "compute_loss_func would replace the weighted loss; leave it out",
            "unsupported-argument",
        )
    args = named.get("args")
    if args is None:
        return
    if args.label_smoothing_factor:
        raise CotbalError(
            "label smoothing is not defined for the weighted loss; set label_smoothing_factor to 0",
            "unsupported-argument",
        )
    liger = {"fused_linear_cross_entropy": True, **(args.liger_kernel_config or {})}
    if args.use_liger_kernel and liger["fused_linear_cross_entropy"]:
        raise CotbalError(
            "use_liger_kernel computes the loss without logits, so the weights would be lost; set"
            ' liger_kernel_config={"fused_linear_cross_entropy": False}',
            "unsupported-argument",
        )


def _task_ids(batch: Batch) -> Tensor:
    if TASK_IDS not in batch:
        raise CotbalError(
            f"expected the field {TASK_IDS!r} in every training batch, found {', '.join(batch)}:"
            " wrap the collator with `with_task_ids(collator, tasks)`, and give every training row"
            f" its field {TASK!r}",
            "missing-task",
        )
    ids: Tensor = batch[TASK_IDS]
    labels = batch["labels"]
    if ids.shape not in (labels.shape[:1], labels.shape):
        raise CotbalError(
            f"expected {TASK_IDS!r} of shape {list(labels.shape[:1])} (one per row) or"
            f" {list(labels.shape)} (one per token); found {list(ids.shape)}",
            "wrong-shape",
        )
    return ids
