"""The update of one optimizer step must not depend on how its batch is cut, and must follow the
weights.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration, Trainer

from cotbal.data.batches.grouping import StepLayout
from cotbal.data.batches.grouping import grouped as grouped_by_length
from cotbal.data.batches.packing import packed
from cotbal.errors import CotbalError, RunError
from cotbal.loss import IGNORED, predicting, token_losses, token_tasks
from cotbal.training.trainers import forward, self_check
from cotbal.training.trainers.blank_image import with_blank_image
from cotbal.training.trainers.hf import TaskWeightedTrainer, with_task_ids
from cotbal.weightings import Static
from helpers.errors import raises
from helpers.trainer_cases import (
    EQUAL,
    TASK_LEVEL,
    TASKS,
    WEIGHTS,
    InOrder,
    arguments,
    distance,
    flat,
    grouped,
    pad,
    plain,
    rows,
    trainer_of,
    update,
    with_images,
)


@pytest.mark.parametrize(
    ("micro", "accumulation"), [pytest.param(4, 4, marks=pytest.mark.extended), (1, 16)]
)
@pytest.mark.parametrize(
    "weighting",
    [
        pytest.param(WEIGHTS, id="cotbal"),
        pytest.param(TASK_LEVEL, id="tla"),
        pytest.param(EQUAL, id="ew", marks=pytest.mark.extended),
    ],
)
def test_the_update_does_not_depend_on_micro_batches(
    checkpoint: Path, tmp_path: Path, micro: int, accumulation: int, weighting: Any
) -> None:
    whole = plain(checkpoint, 16, 1, weighting)
    cut = plain(checkpoint, micro, accumulation, weighting)
    assert distance(cut, whole) < 1e-5
    assert cut["log"][0]["loss"] == pytest.approx(whole["log"][0]["loss"], rel=1e-5)


@pytest.mark.parametrize(("clip", "first"), [(0.0, True), (1.0, True), (1.0, False)])
def test_a_gradient_that_is_not_finite_stops_the_training_before_the_step(
    checkpoint: Path, tmp_path: Path, clip: float, first: bool
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = trainer_of(
        model, tmp_path, 4, 4, max_steps=3, max_grad_norm=clip, learning_rate=1e-3, save_steps=1
    )
    weight = model.get_input_embeddings().weight

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        broken = first or trainer.state.global_step == 1
        return gradient * torch.nan if broken else gradient

    weight.register_hook(spoil)
    step = 1 if first else 2
    with raises(RunError, "diverged", f"step {step} ", "gradient norm", *TASKS):
        trainer.train()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_loss_that_is_not_finite_names_its_task(checkpoint: Path, tmp_path: Path) -> None:
    class Overflowing(InOrder):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            self._step.sums[1] = torch.inf
            return loss

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    with raises(RunError, "diverged", "step 1 ", "tokens of b;"):
        trainer_of(model, tmp_path, 4, 4, kind=Overflowing).train()


def test_the_last_partial_window_is_exact(checkpoint: Path, tmp_path: Path) -> None:
    """Ten rows in windows of eight: the second step holds two rows, whatever the micro-batch."""
    two = {"max_steps": -1, "num_train_epochs": 1, "data": rows()[:10]}
    assert (
        distance(
            update(checkpoint, tmp_path, 1, 8, **two), update(checkpoint, tmp_path, 8, 1, **two)
        )
        < 1e-5
    )


def test_rows_grouped_by_length_make_the_same_update(checkpoint: Path, tmp_path: Path) -> None:
    """In float64, in two steps, of which the second is not full."""
    layout = StepLayout(4, 1, 4)
    data = rows(22)
    lengths = [len(row["input_ids"]) for row in data]
    order = grouped_by_length(lengths[:16], layout)
    order += [16 + row for row in grouped_by_length(lengths[16:], layout)]
    assert order != list(range(22))
    settings = {"max_steps": -1, "num_train_epochs": 1, "loading": {"dtype": torch.float64}}
    plain_order, by_length = (
        update(checkpoint, tmp_path, 4, 4, data=[data[row] for row in taken], **settings)
        for taken in (range(22), order)
    )
    assert flat(by_length).dtype == torch.float64
    assert distance(by_length, plain_order) < 1e-12


def test_weights_move_the_update_even_where_a_micro_batch_holds_one_task(
    checkpoint: Path, tmp_path: Path
) -> None:
    assert distance(plain(checkpoint, 1, 16), plain(checkpoint, 1, 16, EQUAL)) > 0.05


@pytest.mark.parametrize(
    ("micro", "accumulation", "count"), [(8, 1, 8), (4, 2, 10), (1, 8, 8), (1, 8, 10)]
)
def test_equal_weights_are_the_stock_trainer(
    checkpoint: Path, tmp_path: Path, micro: int, accumulation: int, count: int
) -> None:
    """Loss and gradient; with ten rows also of a last window of two, with (1, 8) of a micro-batch
    without a label.
    """
    data, epoch = rows()[:count], {"max_steps": -1, "num_train_epochs": 1}
    ours = update(checkpoint, tmp_path, micro, accumulation, EQUAL, data=data, **epoch)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    class Stock(Trainer):
        def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    plain = [{key: value for key, value in row.items() if key != "task"} for row in data]
    settings = arguments(tmp_path, micro, accumulation, **epoch)
    stock = Stock(model=model, args=settings, train_dataset=plain, data_collator=pad)
    stock.train()
    change = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    assert distance(ours, {"change": change}) < 1e-6
    losses = [
        [line["loss"] for line in log if "loss" in line]
        for log in (ours["log"], stock.state.log_history)
    ]
    assert len(losses[0]) == (2 if count == 10 else 1)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert ours["log"][-1]["total_flos"] == stock.state.log_history[-1]["total_flos"] > 0


@pytest.mark.parametrize("steps", [1, 3])
def test_parameters_are_counted_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    count, calls = model.num_parameters, []
    monkeypatch.setattr(model, "num_parameters", lambda **how: calls.append(how) or count(**how))
    trainer = trainer_of(model, tmp_path, 4, 1, EQUAL, max_steps=steps)
    trainer.train()
    assert calls.count({"exclude_embeddings": True}) == 1
    assert trainer.floating_point_ops({"input_ids": torch.zeros(0)}) == 0


@pytest.mark.parametrize(
    ("logits", "attention", "form"),
    [  # every pair of two of them
        ("kept", "sdpa", "weights"),
        ("kept", "eager", "tokens"),
        ("kept", "sdpa", "tla"),
        ("full", "eager", "weights"),
        ("full", "sdpa", "tokens"),
        ("full", "eager", "tla"),
    ],
)
def test_the_gradient_is_that_of_the_equation(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logits: str,
    attention: str,
    form: str,
) -> None:
    """For every way in which logits are made, so that kept and full ones agree."""
    assert forward.takes_logits_mask(AutoModelForImageTextToText.from_pretrained(checkpoint))
    loading = {"attn_implementation": attention}
    weighting, normalizer = (TASK_LEVEL, "weights") if form == "tla" else (WEIGHTS, form)
    if logits == "full":
        monkeypatch.setattr(forward, "takes_logits_mask", lambda model: False)
    result = update(checkpoint, tmp_path, 4, 4, weighting, loading=loading, normalizer=normalizer)
    gradient, loss = by_the_equation(checkpoint, attention, form)
    assert distance(result, {"change": gradient}) < 1e-5
    assert result["log"][0]["loss"] == pytest.approx(loss, rel=1e-5)


@cache
def by_the_equation(
    checkpoint: Path, attention: str, form: str
) -> tuple[dict[str, torch.Tensor], float]:
    """Gradient and loss of Eq. 2 or TLA by a loop over rows with stock forward passes."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, attn_implementation=attention)
    sums, counts = [torch.zeros(()) for _ in TASKS], [0, 0, 0]
    for row in rows():
        targets = row["labels"][1:]
        losses = model(input_ids=row["input_ids"][None]).logits[0, :-1].log_softmax(-1)
        chosen = [
            -losses[index, word] for index, word in enumerate(targets.tolist()) if word != IGNORED
        ]
        task = TASKS.index(row["task"])
        sums[task], counts[task] = sums[task] + sum(chosen), counts[task] + len(chosen)
    loss = loss_of_the_equation(sums, counts, form)
    loss.backward()
    gradient = {
        n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()
    }
    return gradient, loss.item()


def loss_of_the_equation(sums: list[torch.Tensor], counts: list[int], form: str) -> torch.Tensor:
    if form == "tla":
        return torch.stack([s / n for s, n in zip(sums, counts, strict=True)]).mean()
    weights = WEIGHTS.values
    weighted = sum(w * n for w, n in zip(weights, counts, strict=True))
    total = sum(counts) if form == "tokens" else weighted
    return torch.stack([w * s for w, s in zip(weights, sums, strict=True)]).sum() / total


def test_scaling_all_weights_changes_nothing_with_the_default_normalizer(
    checkpoint: Path, tmp_path: Path
) -> None:
    scaled = Static(tuple(10 * w for w in WEIGHTS.values))
    assert distance(plain(checkpoint, 4, 4, scaled), plain(checkpoint, 4, 4)) < 1e-5
    by_tokens = [
        update(checkpoint, tmp_path, 4, 4, w, normalizer="tokens") for w in (scaled, WEIGHTS)
    ]
    assert distance(*by_tokens) == pytest.approx(9, rel=1e-3)


def test_logged_task_losses_are_unweighted_means(checkpoint: Path, tmp_path: Path) -> None:
    log = plain(checkpoint, 4, 4)["log"][0]
    whole = plain(checkpoint, 16, 1, EQUAL)["log"][0]
    assert log["task_losses"] == pytest.approx(whole["task_losses"], rel=1e-5)
    total = sum(log["task_losses"][t] * log["task_tokens"][t] for t in TASKS) / sum(
        log["task_tokens"].values()
    )
    assert total == pytest.approx(whole["loss"], rel=1e-5)
    assert log["weights"] == pytest.approx(dict(zip(TASKS, WEIGHTS.values, strict=True)))


def test_the_self_check_sees_the_predicted_change_and_leaves_no_trace(
    checkpoint: Path, tmp_path: Path
) -> None:
    result = plain(checkpoint, 4, 4)
    assert result["check"].error < 1e-3
    assert result["check"].predicted > 0.01

    class Unchecked(InOrder):
        def _check(self, *args: Any) -> None:
            return

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Unchecked(
        model=model,
        args=arguments(tmp_path, 4, 4),
        train_dataset=rows(),
        data_collator=with_task_ids(pad, TASKS),
        tasks=TASKS,
        weighting=WEIGHTS,
    ).train()
    change = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    assert torch.equal(flat(result), flat({"change": change}))


@pytest.mark.parametrize("how", ["dropped", "cancelled"])
def test_the_self_check_stops_a_trainer_that_loses_the_weights(
    checkpoint: Path, tmp_path: Path, how: str
) -> None:
    class Lossy(InOrder):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            kept = self._step
            counts = torch.bincount(inputs["task_ids"], minlength=3).float()
            cancelled = kept.coefficients / (kept.coefficients * counts).sum() / 10
            self._step = replace(
                kept, coefficients=torch.ones(3) / 100 if how == "dropped" else cancelled
            )
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            self._step = kept
            return loss

    trainer = trainer_of(
        AutoModelForImageTextToText.from_pretrained(checkpoint), tmp_path, 2, 8, kind=Lossy
    )
    with raises(CotbalError, "self-check-failed"):
        trainer.train()


@pytest.mark.parametrize("how", ["kept", "cancelled"])
def test_the_self_check_works_in_bfloat16(checkpoint: Path, tmp_path: Path, how: str) -> None:
    class Lossy(InOrder):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            counts = torch.bincount(inputs["task_ids"], minlength=3).float()
            if how == "cancelled":
                kept = self._step.coefficients
                self._step = replace(self._step, coefficients=kept / (kept * counts).sum() / 10)
            return super().compute_loss(model, inputs, *args, **kwargs)

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = trainer_of(model, tmp_path, 2, 8, kind=Lossy, bf16=True)
    if how == "kept":
        trainer.train()
        assert 1e-5 < trainer.self_check.error < 0.2
    else:
        with raises(CotbalError, "self-check-failed"):
            trainer.train()


def test_the_self_check_allows_for_the_rounding_of_autocast(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every parameter is float32."""
    monkeypatch.setattr(self_check, "TOLERANCE", 1e-7)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer_of(model, tmp_path, 2, 8, bf16=True).train()
    with raises(CotbalError, "self-check-failed"):
        trainer_of(model, tmp_path, 2, 8).train()


def test_rows_without_a_task_are_rejected(checkpoint: Path, tmp_path: Path) -> None:
    data = rows()
    data[3]["task"] = "d"
    with raises(CotbalError, "unknown-task", "a, b, c", "found d"):
        update(checkpoint, tmp_path, 16, 1, data=data)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    bare = InOrder(
        model=model,
        args=arguments(tmp_path, 4, 4),
        train_dataset=rows(),
        tasks=TASKS,
        weighting=WEIGHTS,
        data_collator=lambda batch: pad(
            [{k: v for k, v in row.items() if k != "task"} for row in batch]
        ),
    )
    with raises(CotbalError, "missing-task", "task_ids", "with_task_ids"):
        bare.train()
    none = [{key: value for key, value in row.items() if key != "task"} for row in rows()]
    with raises(CotbalError, "missing-task", "task_ids", "'task'"):
        update(checkpoint, tmp_path, 4, 4, data=none)


def test_arguments_that_would_replace_the_loss_are_rejected(
    checkpoint: Path, tmp_path: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    common = {"model": model, "train_dataset": rows(), "tasks": TASKS, "weighting": WEIGHTS}
    with raises(CotbalError, "unsupported-argument", "label_smoothing_factor"):
        TaskWeightedTrainer(args=arguments(tmp_path, 4, 4, label_smoothing_factor=0.1), **common)
    with raises(CotbalError, "unsupported-argument", "compute_loss_func"):
        TaskWeightedTrainer(
            args=arguments(tmp_path, 4, 4), compute_loss_func=lambda *_: None, **common
        )


def test_positional_arguments_are_validated_too(checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    common = {"tasks": TASKS, "weighting": WEIGHTS}
    for options in ({"label_smoothing_factor": 0.1}, {"use_liger_kernel": True}):
        with raises(CotbalError, "unsupported-argument", *options):
            TaskWeightedTrainer(model, arguments(tmp_path, 4, 4, **options), **common)
    plain = arguments(tmp_path, 4, 4)
    with raises(CotbalError, "unsupported-argument", "compute_loss_func"):
        TaskWeightedTrainer(model, plain, pad, rows(), None, None, None, lambda *_: None, **common)
    assert TaskWeightedTrainer(model, plain, pad, rows(), **common).args is plain


class NoLogits(LlavaForConditionalGeneration):
    """As with a fused or chunked loss: the head is run inside the loss, and its outputs are
    gone."""

    def forward(self, *args: Any, **more: Any) -> Any:
        return replace(super().forward(*args, **more), logits=None)


class OnlyLoss(LlavaForConditionalGeneration):
    """Returns a number, whatever it is asked for."""

    def forward(self, input_ids: torch.Tensor, logits_to_keep: Any = 0, **more: Any) -> Any:
        return (super().forward(input_ids, labels=input_ids, **more).loss,)


@pytest.mark.parametrize("kind", [NoLogits, OnlyLoss])
@pytest.mark.parametrize("checked", [True, False], ids=["with self-check", "without"])
def test_a_model_without_logits_is_rejected(
    checkpoint: Path, tmp_path: Path, kind: type[LlavaForConditionalGeneration], checked: bool
) -> None:
    """Its loss cannot be weighted token by token."""
    normalizer = "weights" if checked else "per_device"
    trainer = trainer_of(kind.from_pretrained(checkpoint), tmp_path, 4, 4, normalizer=normalizer)
    with raises(CotbalError, "missing-logits", kind.__name__):
        trainer.train()


def test_a_fused_loss_of_the_trainer_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    for config in (None, {"rope": True}, {"fused_linear_cross_entropy": True}):
        names = ("use_liger_kernel", '{"fused_linear_cross_entropy": False}')
        with raises(CotbalError, "unsupported-argument", *names):
            trainer_of(model, tmp_path, 4, 4, use_liger_kernel=True, liger_kernel_config=config)


def test_a_fused_loss_that_forgets_the_weights_is_stopped(checkpoint: Path, tmp_path: Path) -> None:
    """A trainer that takes the mean loss of the model instead of ours."""

    class Fused(InOrder):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            plain = {key: value for key, value in inputs.items() if key != "task_ids"}
            return model(**plain).loss / 4

    trainer = trainer_of(
        AutoModelForImageTextToText.from_pretrained(checkpoint), tmp_path, 4, 4, kind=Fused
    )
    with raises(CotbalError, "self-check-failed"):
        trainer.train()


def test_evaluation_reports_the_plain_loss(checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    data = [row for i, row in enumerate(rows()) if i != 5]
    trainer = TaskWeightedTrainer(
        model=model,
        args=arguments(tmp_path, 4, 4, per_device_eval_batch_size=15),
        train_dataset=data,
        eval_dataset=data,
        data_collator=with_task_ids(pad, TASKS),
        tasks=TASKS,
        weighting=WEIGHTS,
    )
    loss = trainer.evaluate()["eval_loss"]
    batch = pad([{k: v for k, v in row.items() if k != "task"} for row in data])
    with torch.no_grad():
        assert loss == pytest.approx(float(model(**batch).loss), rel=1e-4)


def test_predictions_are_logits_of_all_positions(checkpoint: Path, tmp_path: Path) -> None:
    """Whoever reads them holds them against the labels; rows to evaluate need no task."""
    shapes = []

    def metrics(predictions: Any) -> dict[str, float]:
        shapes.append((predictions.predictions.shape, predictions.label_ids.shape))
        return {"accuracy": 0.5}

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    data = [{key: value for key, value in row.items() if key != "task"} for row in rows()]
    trainer = TaskWeightedTrainer(
        model=model,
        args=arguments(tmp_path, 4, 4),
        train_dataset=rows(),
        eval_dataset=data,
        tasks=TASKS,
        data_collator=with_task_ids(pad, TASKS),
        weighting=WEIGHTS,
        compute_metrics=metrics,
    )
    batch = pad(data)
    rows_and_positions = tuple(batch["labels"].shape)
    assert trainer.evaluate()["eval_accuracy"] == 0.5
    words = model.config.text_config.vocab_size
    assert shapes == [((*rows_and_positions, words), rows_and_positions)]
    with torch.no_grad():
        logits = model(**batch).logits
    predictions = torch.as_tensor(trainer.predict(data).predictions)
    torch.testing.assert_close(
        predictions[batch["attention_mask"] > 0], logits[batch["attention_mask"] > 0]
    )


def test_adapters_that_lengthen_rows_are_rejected(checkpoint: Path, tmp_path: Path) -> None:
    size = {"token_dim": 16, "num_layers": 2, "num_attention_heads": 2, "num_virtual_tokens": 4}
    adapter = PromptTuningConfig(task_type="CAUSAL_LM", **size)
    model = get_peft_model(AutoModelForImageTextToText.from_pretrained(checkpoint), adapter)
    with raises(CotbalError, "unsupported-adapter", "PromptTuningConfig"):
        trainer_of(model, tmp_path, 4, 4)


def test_rows_grouped_by_length_are_still_weighted(checkpoint: Path, tmp_path: Path) -> None:
    whole = update(checkpoint, tmp_path, 16, 1, data=grouped())
    assert distance(update(checkpoint, tmp_path, 2, 8, data=grouped()), whole) < 1e-5
    assert distance(update(checkpoint, tmp_path, 2, 8, EQUAL, data=grouped()), whole) > 0.05


def test_the_trainer_s_own_grouping_by_length_changes_only_the_order(
    checkpoint: Path, tmp_path: Path
) -> None:
    """With its sampler, which sorts by length within some batches; the same order for every cut of
    the batch.
    """
    kind, by_length = (
        TaskWeightedTrainer,
        {
            "train_sampling_strategy": "group_by_length",
            "max_steps": 2,
        },
    )
    whole = update(checkpoint, tmp_path, 8, 1, kind=kind, **by_length)
    cut = update(checkpoint, tmp_path, 2, 4, kind=kind, **by_length)
    assert distance(cut, whole) < 1e-5
    assert cut["log"][0]["task_tokens"] == whole["log"][0]["task_tokens"]
    in_order = update(checkpoint, tmp_path, 8, 1, max_steps=2)
    assert whole["log"][0]["task_tokens"] != in_order["log"][0]["task_tokens"]
    assert distance(update(checkpoint, tmp_path, 2, 4, EQUAL, kind=kind, **by_length), whole) > 0.05


def test_per_device_is_the_published_form(checkpoint: Path, tmp_path: Path) -> None:
    """The mean over micro-batches of `sum w l / sum w n` inside each, by plain backward passes."""
    result = update(checkpoint, tmp_path, 4, 4, normalizer="per_device")
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    for start in range(0, 16, 4):
        batch = with_task_ids(pad, TASKS)(rows()[start : start + 4])
        mask = predicting(batch["labels"])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        losses = token_losses(logits[mask], batch["labels"][:, 1:][mask[:, :-1]])
        weights = torch.tensor(WEIGHTS.values)[token_tasks(batch["labels"], batch["task_ids"])]
        ((losses * weights).sum() / weights.sum() / 4).backward()
    change = {
        n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()
    }
    assert distance(result, {"change": change}) < 1e-5


def test_per_device_loses_the_weights_where_a_micro_batch_holds_one_task(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The defect that it is there to show; so the self-check must be left out, and says so once."""
    lost = update(checkpoint, tmp_path, 1, 16, normalizer="per_device", max_steps=2)
    assert (
        distance(
            lost, update(checkpoint, tmp_path, 1, 16, EQUAL, normalizer="per_device", max_steps=2)
        )
        < 1e-6
    )
    assert lost["check"] is None
    warnings = [r.getMessage() for r in caplog.records if r.name.endswith("trainers.hf")]
    assert len(warnings) == 2  # one per training
    assert all("self-check" in text and "per_device" in text for text in warnings)


def test_a_step_of_masked_rows_changes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    data = [{**row, "labels": torch.full_like(row["labels"], IGNORED)} for row in rows()]
    result = update(checkpoint, tmp_path, 4, 4, data=data)
    assert flat(result).abs().max() == 0
    assert result["log"][0]["masked_rows"] == 16
    assert result["log"][0]["task_losses"] == {}


def test_a_blank_image_row_changes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    collator = with_blank_image(with_task_ids(pad, TASKS), with_images([0])[0])
    assert "pixel_values" in collator(rows()[:2])
    assert (collator(rows()[:2])["labels"][2] == IGNORED).all()
    assert len(collator(with_images([0])[:2])["labels"]) == 2
    assert (
        distance(
            update(checkpoint, tmp_path, 4, 4, collator=collator),
            plain(checkpoint, 4, 4),
        )
        < 1e-5
    )


def test_task_ids_may_stand_for_every_token(checkpoint: Path, tmp_path: Path) -> None:
    def per_token(batch: list[dict[str, Any]]) -> dict[str, Any]:
        batch_with_ids = with_task_ids(pad, TASKS)(batch)
        return {
            **batch_with_ids,
            "task_ids": batch_with_ids["task_ids"][:, None].expand(batch_with_ids["labels"].shape),
        }

    assert (
        distance(
            update(checkpoint, tmp_path, 4, 4, collator=per_token),
            plain(checkpoint, 4, 4),
        )
        < 1e-6
    )


def test_task_ids_of_another_shape_are_rejected(checkpoint: Path, tmp_path: Path) -> None:
    def too_few(batch: list[dict[str, Any]]) -> dict[str, Any]:
        batch_with_ids = with_task_ids(pad, TASKS)(batch)
        return {**batch_with_ids, "task_ids": batch_with_ids["task_ids"][:-1]}

    with raises(CotbalError, "wrong-shape", "'task_ids'", "[4]", "[4, ", "[3]"):
        update(checkpoint, tmp_path, 4, 4, collator=too_few)


def test_a_blank_image_is_not_added_to_packed_rows(checkpoint: Path) -> None:
    """Taking the labels of the last row would take those of all the rows in it."""
    rows_packed = packed(with_task_ids(pad, TASKS), None, 0)
    with raises(CotbalError, "wrong-shape", "3 rows", "found 1"):
        with_blank_image(rows_packed, with_images([0])[0])(rows()[:2])
    collator = packed(with_blank_image(with_task_ids(pad, TASKS), with_images([0])[0]), None, 0)
    assert collator(rows()[:2])["masked_rows"] == 1


def test_the_order_of_the_tasks_does_not_matter(checkpoint: Path, tmp_path: Path) -> None:
    """Ids and weights both follow the names."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    turned = TASKS[::-1]
    InOrder(
        model=model,
        args=arguments(tmp_path, 4, 4),
        train_dataset=rows(),
        data_collator=with_task_ids(pad, turned),
        tasks=turned,
        weighting=Static(WEIGHTS.values[::-1]),
    ).train()
    change = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    assert distance({"change": change}, plain(checkpoint, 4, 4)) < 1e-6
