"""TaskWeightedSFTTrainer: TRL's SFTTrainer with the weighted loss of TaskWeightedTrainer.

Rows are those of SFTTrainer, with the name of their task in the column `task` (docs/trainers.md).
TRL prepares and collates them; task ids are added behind its collator, one per row, or one per
token where rows are packed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from cotbal.errors import CotbalError, MissingDependency
from cotbal.loss import Normalizer
from cotbal.training.trainers.forward import OURS, for_model
from cotbal.training.trainers.hf import (
    TASK,
    TASK_IDS,
    Batch,
    TaskWeightedTrainer,
    with_task_ids,
    without,
)
from cotbal.weightings import Weighting

try:
    from trl import SFTTrainer, pack_dataset
except ImportError as error:
    raise MissingDependency("the trainer TRL", "trl") from error


class TaskWeightedSFTTrainer(TaskWeightedTrainer, SFTTrainer):
    """An SFTTrainer with the loss, self-check and log of `TaskWeightedTrainer`.

    It takes the arguments of `trl.SFTTrainer`, and `tasks`, `weighting` and `normalizer` of
    `TaskWeightedTrainer`. Datasets, chat templates, collators, packing, adapters, the head without
    logits and the unweighted evaluation are TRL's. TRL's entropy and token accuracy are logged in
    evaluation only.

    Raises:
        CotbalError: the rows have no column `task`, or the arguments would lose or change the
            weights (see `docs/trainers.md` for the list).
    """

    def __init__(
        self,
        *args: Any,
        tasks: Sequence[str],
        weighting: Weighting | Mapping[str, float],
        normalizer: Normalizer = "weights",
        **kwargs: Any,
    ) -> None:
        named = inspect.signature(SFTTrainer).bind_partial(*args, **kwargs).arguments
        _validate_arguments(named.get("args"))
        _validate_tasks(named.get("train_dataset"), tasks)
        self._task_names = list(tasks)  # read by `_prepare_dataset` during construction
        super().__init__(tasks=tasks, weighting=weighting, normalizer=normalizer, **named)
        image = getattr(self.processing_class, "image_token_id", None)
        self.data_collator: Any = _WithIds(
            self.data_collator, tuple(tasks), self.padding_free, image
        )

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, *more: Any
    ) -> Any:
        """As TRL's; where rows will be joined, with a task id for every token."""
        if more[-1] != "train" or not (packing or self.padding_free):
            return super()._prepare_dataset(dataset, processing_class, args, packing, *more)
        if packing and args.max_length is None:
            raise CotbalError(
                "packing: expected max_length, the length of a packed row; found None",
                "missing-max-length",
            )
        # TRL's packing keeps token ids and labels alone, so task ids are added before it.
        rows = super()._prepare_dataset(dataset, processing_class, args, False, *more)
        rows = rows.map(_ids_of_tokens, fn_kwargs={"tasks": self._task_names})
        rows = rows.select_columns(["input_ids", "labels", TASK_IDS])
        return pack_dataset(rows, args.max_length, args.packing_strategy) if packing else rows

    def _token_losses(self, model: nn.Module, inputs: Batch) -> tuple[Any, Tensor]:
        """By TRL's head, which computes the losses in chunks, without logits."""
        extra = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = model(**for_model(inputs), **extra, labels=inputs["labels"], fused_lm_head=True)
        return outputs, -outputs.log_probs[outputs.label_mask]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The weighted loss; outside a training step, TRL's own."""
        if not model.training:
            plain = {
                key: value for key, value in inputs.items() if key == "labels" or key not in OURS
            }
            return SFTTrainer.compute_loss(self, model, plain, return_outputs)
        loss, outputs = super().compute_loss(model, inputs, True)
        if self.aux_loss_enabled:  # of experts: the mean over micro-batches, as in TRL
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / self._step.micro_batches
        return (loss, outputs) if return_outputs else loss


def _validate_arguments(args: Any) -> None:
    loss = getattr(args, "loss_type", "nll")
    if loss not in ("nll", "chunked_nll"):
        raise CotbalError(
            f"loss_type={loss!r} is not the loss that is weighted; set loss_type='nll'",
            "unsupported-argument",
        )
    strategy = getattr(args, "packing_strategy", "bfd")
    if getattr(args, "packing", False) and strategy != "bfd":
        raise CotbalError(
            f"packing_strategy={strategy!r} splits rows, so that parts would count as rows; set"
            " packing_strategy='bfd'",
            "unsupported-argument",
        )


def _validate_tasks(rows: Any, tasks: Sequence[str]) -> None:
    """Before anything is prepared; streamed rows are validated one by one, later."""
    columns = getattr(rows, "column_names", None)
    if columns is not None and TASK not in columns:
        raise CotbalError(
            f"expected a column {TASK!r} with the name of every row's task in train_dataset; found"
            f" {', '.join(columns)}",
            "missing-task",
        )
    if hasattr(rows, "unique"):
        for name in rows.unique(TASK):
            _validate_task(name, tasks)


def _validate_task(name: Any, tasks: Collection[str]) -> None:
    if name not in tasks:
        hint = "; replace the numbers of a ClassLabel by its names" if isinstance(name, int) else ""
        raise CotbalError(
            f"every row needs a column {TASK!r} with one of {', '.join(tasks)}; found {name}{hint}",
            "unknown-task",
        )


def _ids_of_tokens(row: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, list[int]]:
    _validate_task(row.get(TASK), tasks)
    return {TASK_IDS: [tasks.index(row[TASK])] * len(row["input_ids"])}


@dataclass(frozen=True)
class _WithIds:
    """TRL's collator with task ids; no closure, so that it can be sent to workers.

    Attributes:
        tasks: names, in the order of their ids.
        flat: whether the collator joins its rows.
        image: id of the placeholder of images, if there is one.
    """

    collator: Callable[[list[Any]], Batch]
    tasks: tuple[str, ...]
    flat: bool
    image: int | None

    def __call__(self, rows: list[Any]) -> Batch:
        by_token = TASK_IDS in rows[0] or (self.flat and TASK in rows[0])
        batch = self._by_token(rows) if by_token else with_task_ids(self.collator, self.tasks)(rows)
        if self.image is not None and bool((batch["labels"] == self.image).any()):
            raise CotbalError(
                "the labels contain placeholders of images, so the weight of a task would depend on"
                " the size of its images: use rows of `prompt` and `completion`, or set"
                " assistant_only_loss=True with a chat template that marks the assistant's words",
                "image-in-labels",
            )
        return batch

    def _by_token(self, rows: list[Any]) -> Batch:
        if TASK_IDS not in rows[0]:  # with skip_prepare_dataset
            rows = [{**row, **_ids_of_tokens(row, self.tasks)} for row in rows]
        batch = self.collator([without(row, TASK, TASK_IDS) for row in rows])
        parts = [torch.as_tensor(row[TASK_IDS]) for row in rows]
        parts = [torch.cat(parts)] if self.flat else parts
        length = batch["labels"].shape[1]
        padded = [pad(part, (0, length - len(part))) for part in parts]
        return {**batch, TASK_IDS: torch.stack(padded)}
