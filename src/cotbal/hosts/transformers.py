"""TaskWeightedTrainer: the Hugging Face Trainer with a weighted loss that no layout of the batch can change.

    trainer = TaskWeightedTrainer(
        model=model, args=args, train_dataset=rows,
        data_collator=with_task_ids(collator, tasks), tasks=tasks, weighting=fixed.build(tasks, weights),
    )

Every row carries the name of its task in the field `task`; `with_task_ids` turns the names into ids after the
collator has done its work, since collators drop what they do not know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from cotbal.errors import CotbalError
from cotbal.hosts.self_check import SelfCheck, check_weights
from cotbal.loss import (
    Normalizer,
    predicting,
    task_level,
    task_sums,
    token_counts,
    token_level,
    token_losses,
    weighted_sum,
)
from cotbal.weightings import Weighting

TASK_IDS = "task_ids"
Batch = dict[str, Any]


def with_task_ids(collator: Callable[[list[Any]], Batch], tasks: Sequence[str]) -> Callable[[list[Any]], Batch]:
    """A collator that does what `collator` does and adds `task_ids` (int64, one a row) from the rows' field `task`.

    Raises (when called):
        CotbalError: a row has no task, or one that is not in `tasks`; there is no default.
    """
    position = {task: i for i, task in enumerate(tasks)}

    def collate(rows: list[Any]) -> Batch:
        names = [row.get("task") for row in rows]
        unknown = sorted({str(name) for name in names if name not in position})
        if unknown:
            raise CotbalError(
                f"every row needs a field `task` with one of {', '.join(tasks)}; found {', '.join(unknown)}"
            )
        batch = collator([{key: value for key, value in row.items() if key != "task"} for row in rows])
        return {**batch, TASK_IDS: torch.tensor([position[name] for name in names])}

    return collate


class TaskWeightedTrainer(Trainer):
    """A Trainer whose loss is `sum_t c_t S_t` with the coefficients of one whole optimizer step (see `cotbal.loss`).

    Args beyond those of `transformers.Trainer`:
        tasks: names of the tasks, in the order of the task ids.
        weighting: a `cotbal.weightings.Weighting`.
        normalizer: `weights` or `tokens`, see `cotbal.loss.token_level`.

    Before the first step it checks on a real batch that a changed weight changes the gradient as predicted
    (`self_check` holds the result). `task_losses` of the log are unweighted means over valid tokens.

    Raises:
        CotbalError: the combination of arguments would lose the weights (label smoothing, a loss function of the
            caller's, several GPUs in one process without a launcher, sequence or context parallelism).
    """

    def __init__(
        self, *args: Any, tasks: Sequence[str], weighting: Weighting, normalizer: Normalizer = "weights", **kwargs: Any
    ) -> None:
        _refuse(kwargs)
        super().__init__(*args, **kwargs)
        self.tasks = tuple(tasks)
        self.weighting = weighting
        self.normalizer: Normalizer = normalizer
        self.self_check: SelfCheck | None = None
        self.loss_is_scaled_for_ga = True  # our coefficients already cover the whole accumulation window
        self.model_accepts_loss_kwargs = False  # the model must not divide a second time
        self._refuse_layout()
        self._whole_step = torch.zeros(len(self.tasks))
        self._forget()

    def _refuse_layout(self) -> None:
        if self.args.n_gpu > 1:
            raise CotbalError(
                f"expected one GPU a process, found {self.args.n_gpu}: start with `torchrun` or `accelerate launch`, "
                "or set CUDA_VISIBLE_DEVICES to one device"
            )
        if self.get_sp_size() * self.get_cp_size() > 1:
            raise CotbalError("sequence and context parallelism split the labels of a row; not supported yet")
        self.args.remove_unused_columns = False  # or the Trainer would drop the task before the collator sees it
        self._signature_columns = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], None]:
        """Fetch the micro-batches of one optimizer step and fix its coefficients, over all ranks."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        counts = torch.zeros(len(self.tasks), dtype=torch.long)
        for batch in batches:
            counts += token_counts(batch["labels"].cpu(), _task_ids(batch).cpu(), len(self.tasks))
        counts = self.accelerator.reduce(counts.to(device), reduction="sum")
        if self.self_check is None:
            self.self_check = self._check(batches, counts)
        self._whole_step = self.coefficients(counts, self.current_weights())
        return batches, None

    def _check(self, batches: list[Batch], counts: Tensor) -> SelfCheck | None:
        def host_loss(batch: Batch, coefficients: Tensor) -> Tensor:
            self._whole_step = coefficients
            loss: Tensor = self.compute_loss(self.model, batch)
            return loss / self._ranks

        def coefficients(task: int, factor: float) -> Tensor:
            if self.weighting.average == "task":  # has no weights to change: change its coefficient
                return self.coefficients(counts, self.current_weights()) * self._only(task, factor)
            return self.coefficients(counts, self.current_weights() * self._only(task, factor))

        inputs = [self._prepare_inputs(batch) for batch in batches]
        with self.compute_loss_context_manager():  # autocast, as in training
            found = check_weights(self.model, inputs, host_loss, coefficients, self.tasks)
        self._forget()
        return found

    def _only(self, task: int, factor: float) -> Tensor:
        factors = torch.ones(len(self.tasks))
        factors[task] = factor
        return factors

    @property
    def _ranks(self) -> int:
        """Data-parallel ranks over which gradients are averaged."""
        return int(self.accelerator.num_processes // self.get_tp_size())

    def current_weights(self) -> Tensor:
        """Weight of every task at this optimizer step, float32."""
        return torch.as_tensor(self.weighting.weights(self.state.global_step), dtype=torch.float32)

    def coefficients(self, counts: Tensor, weights: Tensor) -> Tensor:
        """`c_t` for a step with these counts of valid tokens, see `cotbal.loss`."""
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
        """This micro-batch's part of the loss of the step; outside a training step, the EW loss of the batch."""
        task_ids = _task_ids(inputs)
        labels = inputs["labels"]
        mask = predicting(labels)
        outputs, losses = _losses(model, inputs, mask)
        token_tasks = task_ids[:, None].expand_as(mask)[mask]
        if not model.training:
            loss = losses.mean() if len(losses) else losses.sum()
            return (loss, outputs) if return_outputs else loss
        self._observe(losses, token_tasks)
        loss = weighted_sum(losses, token_tasks, self._whole_step.to(losses.device))
        loss = loss * self._ranks  # gradients are averaged over ranks afterwards; the loss of a step is their sum
        return (loss, outputs) if return_outputs else loss

    def _observe(self, losses: Tensor, token_tasks: Tensor) -> None:
        self._sums += task_sums(losses, token_tasks, len(self.tasks)).cpu()
        self._counts += torch.bincount(token_tasks, minlength=len(self.tasks)).cpu()

    def _forget(self) -> None:
        self._sums = torch.zeros(len(self.tasks))
        self._counts = torch.zeros(len(self.tasks), dtype=torch.long)

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Add the unweighted loss, the valid tokens and the weight of every task since the last log, over all ranks."""
        if "loss" in logs:
            device = self.args.device
            sums = self.accelerator.reduce(self._sums.to(device), reduction="sum").cpu()
            counts = self.accelerator.reduce(self._counts.to(device), reduction="sum").cpu()
            seen = [i for i in range(len(self.tasks)) if counts[i] > 0]
            weights = self.current_weights()
            logs["task_losses"] = {self.tasks[i]: float(sums[i] / counts[i]) for i in seen}
            logs["task_tokens"] = {self.tasks[i]: int(counts[i]) for i in seen}
            logs["weights"] = {task: float(weights[i]) for i, task in enumerate(self.tasks)}
            self._forget()
        super().log(logs, *args, **kwargs)


def _refuse(kwargs: Mapping[str, Any]) -> None:
    if kwargs.get("compute_loss_func") is not None:
        raise CotbalError("compute_loss_func would replace the weighted loss; leave it out")
    args = kwargs.get("args")
    if args is not None and args.label_smoothing_factor:
        raise CotbalError("label smoothing is not defined for the weighted loss; set label_smoothing_factor to 0")


def _task_ids(batch: Batch) -> Tensor:
    if TASK_IDS not in batch:
        raise CotbalError(
            f"expected the field {TASK_IDS!r} in every batch, found {', '.join(batch)}: wrap the collator with "
            "`with_task_ids(collator, tasks)`"
        )
    ids: Tensor = batch[TASK_IDS]
    return ids


def _losses(model: nn.Module, inputs: Batch, mask: Tensor) -> tuple[Any, Tensor]:
    """Forward pass and the loss of every valid token; logits of other positions are not made, if the model can."""
    targets = inputs["labels"][:, 1:][mask[:, :-1]]
    plain = {key: value for key, value in inputs.items() if key not in (TASK_IDS, "labels")}
    if takes_logits_mask(model):
        outputs = model(**plain, logits_to_keep=mask, use_cache=False)
        return outputs, token_losses(outputs.logits, targets)
    outputs = model(**plain, use_cache=False)
    return outputs, token_losses(outputs.logits[mask], targets)


def takes_logits_mask(model: nn.Module) -> bool:
    """Whether the model's forward can be asked for some logits only (`logits_to_keep`, transformers 5)."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module  # the wrapper of a data-parallel launcher
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
