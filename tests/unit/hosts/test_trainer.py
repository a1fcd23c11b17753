"""The update of one optimizer step must not depend on how its batch is cut, and must follow the weights."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, Trainer, TrainingArguments

from cotbal.errors import CotbalError
from cotbal.hosts.transformers import TaskWeightedTrainer, with_task_ids
from cotbal.loss import IGNORED
from cotbal.weightings import Static
from tiny_vlm import build

TASKS = ("a", "b", "c")
WEIGHTS = Static((0.4, 1.7, 0.9))
EQUAL = Static((1.0, 1.0, 1.0))
TASK_LEVEL = Static((1.0, 1.0, 1.0), "task")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("vlm"))


def rows(count: int = 16) -> list[dict[str, Any]]:
    """Rows of very different lengths; neighbours share a task, so that small micro-batches hold one task."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for i in range(count):
        length = 6 + int(torch.randint(0, 14, (1,), generator=generator))
        ids = torch.randint(20, 300, (length,), generator=generator)
        labels = ids.clone()
        labels[: 2 + i % 4] = IGNORED
        if i == 5:
            labels[:] = IGNORED
        made.append({"input_ids": ids, "labels": labels, "task": TASKS[(i * 3) // count]})
    return made


def pad(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in batch)
    fill = {"input_ids": 0, "labels": IGNORED}
    out = {
        key: torch.stack(
            [torch.nn.functional.pad(row[key], (0, longest - len(row[key])), value=value) for row in batch]
        )
        for key, value in fill.items()
    }
    lengths = torch.tensor([len(row["input_ids"]) for row in batch])
    return {**out, "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}


class InOrder(TaskWeightedTrainer):
    """Rows in the order given, so that only the cutting differs."""

    def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def arguments(directory: Path, micro: int, accumulation: int, **more: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": micro, "gradient_accumulation_steps": accumulation, "max_steps": 1,
        "learning_rate": 1.0, "optim": "sgd", "max_grad_norm": 0.0, "lr_scheduler_type": "constant",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1,
        "remove_unused_columns": False, "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(str(directory), **{**settings, **more})


def update(
    checkpoint: Path, directory: Path, micro: int, accumulation: int, weighting: Any = WEIGHTS, **more: Any
) -> dict:
    """What one SGD step with learning rate 1 subtracts: the gradient."""
    data = more.pop("data", None) or rows()
    normalizer = more.pop("normalizer", "weights")
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = InOrder(
        model=model, args=arguments(directory, micro, accumulation, **more), train_dataset=data,
        data_collator=with_task_ids(pad, TASKS), tasks=TASKS, weighting=weighting, normalizer=normalizer,
    )  # fmt: skip
    trainer.train()
    change = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    return {"change": change, "log": trainer.state.log_history, "check": trainer.self_check}


def flat(result: dict) -> torch.Tensor:
    return torch.cat([value.flatten() for value in result["change"].values()])


def distance(a: dict, b: dict) -> float:
    return float((flat(a) - flat(b)).norm() / flat(b).norm())


@pytest.mark.parametrize(("micro", "accumulation"), [(4, 4), (1, 16), (2, 8)])
@pytest.mark.parametrize("weighting", [WEIGHTS, TASK_LEVEL, EQUAL], ids=["fixed", "task_level", "equal"])
def test_the_update_does_not_depend_on_micro_batches(
    checkpoint: Path, tmp_path: Path, micro: int, accumulation: int, weighting: Any
) -> None:
    whole = update(checkpoint, tmp_path, 16, 1, weighting)
    cut = update(checkpoint, tmp_path, micro, accumulation, weighting)
    assert distance(cut, whole) < 1e-5
    assert cut["log"][0]["loss"] == pytest.approx(whole["log"][0]["loss"], rel=1e-5)


def test_the_last_partial_window_is_exact(checkpoint: Path, tmp_path: Path) -> None:
    """Ten rows in windows of eight: the second step holds two rows, whatever the micro-batch."""
    two = {"max_steps": -1, "num_train_epochs": 1, "data": rows()[:10]}
    assert distance(update(checkpoint, tmp_path, 1, 8, **two), update(checkpoint, tmp_path, 8, 1, **two)) < 1e-5


def test_weights_move_the_update_even_where_a_micro_batch_holds_one_task(checkpoint: Path, tmp_path: Path) -> None:
    assert distance(update(checkpoint, tmp_path, 1, 16), update(checkpoint, tmp_path, 1, 16, EQUAL)) > 0.05


def test_two_ranks_make_the_same_update(checkpoint: Path, tmp_path: Path) -> None:
    """(8, 1, 2 ranks) and (4, 2, 2 ranks), two gloo processes, against (16, 1, 1)."""
    whole = update(checkpoint, tmp_path, 16, 1)
    for micro, accumulation in ((8, 1), (4, 2)):
        out = tmp_path / f"{micro}.pt"
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__,
            str(checkpoint), str(tmp_path), str(micro), str(accumulation), str(out),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        assert distance(torch.load(out), whole) < 1e-5


def test_equal_weights_are_the_stock_trainer(checkpoint: Path, tmp_path: Path) -> None:
    ours = update(checkpoint, tmp_path, 4, 4, EQUAL)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    class Stock(Trainer):
        def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    plain = [{key: value for key, value in row.items() if key != "task"} for row in rows()]
    stock = Stock(model=model, args=arguments(tmp_path, 4, 4), train_dataset=plain, data_collator=pad)
    stock.train()
    change = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    assert distance(ours, {"change": change}) < 1e-5
    assert ours["log"][0]["loss"] == pytest.approx(stock.state.log_history[0]["loss"], rel=1e-5)


def test_scaling_all_weights_changes_nothing_with_the_default_normalizer(checkpoint: Path, tmp_path: Path) -> None:
    scaled = Static(tuple(10 * w for w in WEIGHTS.values))
    assert distance(update(checkpoint, tmp_path, 4, 4, scaled), update(checkpoint, tmp_path, 4, 4)) < 1e-5
    by_tokens = [update(checkpoint, tmp_path, 4, 4, w, normalizer="tokens") for w in (scaled, WEIGHTS)]
    assert distance(*by_tokens) == pytest.approx(9, rel=1e-3)


def test_logged_task_losses_are_unweighted_means(checkpoint: Path, tmp_path: Path) -> None:
    log = update(checkpoint, tmp_path, 4, 4)["log"][0]
    plain = update(checkpoint, tmp_path, 16, 1, EQUAL)["log"][0]
    assert log["task_losses"] == pytest.approx(plain["task_losses"], rel=1e-5)
    total = sum(log["task_losses"][t] * log["task_tokens"][t] for t in TASKS) / sum(log["task_tokens"].values())
    assert total == pytest.approx(plain["loss"], rel=1e-5)
    assert log["weights"] == pytest.approx(dict(zip(TASKS, WEIGHTS.values, strict=True)))


def test_the_self_check_sees_the_predicted_change_and_leaves_no_trace(checkpoint: Path, tmp_path: Path) -> None:
    result = update(checkpoint, tmp_path, 4, 4)
    assert result["check"].error < 1e-3
    assert result["check"].predicted > 0.01

    class Unchecked(InOrder):
        def _check(self, *args: Any) -> None:
            return None

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Unchecked(
        model=model, args=arguments(tmp_path, 4, 4), train_dataset=rows(), data_collator=with_task_ids(pad, TASKS),
        tasks=TASKS, weighting=WEIGHTS,
    ).train()  # fmt: skip
    change = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    assert torch.equal(flat(result), flat({"change": change}))


@pytest.mark.parametrize("how", ["dropped", "cancelled"])
def test_the_self_check_stops_a_host_that_loses_the_weights(checkpoint: Path, tmp_path: Path, how: str) -> None:
    class Lossy(InOrder):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            kept = self._whole_step
            counts = torch.bincount(inputs["task_ids"], minlength=3).float()
            self._whole_step = torch.ones(3) / 100 if how == "dropped" else kept / (kept * counts).sum() / 10
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            self._whole_step = kept
            return loss

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = Lossy(
        model=model, args=arguments(tmp_path, 2, 8), train_dataset=rows(), data_collator=with_task_ids(pad, TASKS),
        tasks=TASKS, weighting=WEIGHTS,
    )  # fmt: skip
    with pytest.raises(CotbalError, match="self-check"):
        trainer.train()


@pytest.mark.parametrize("how", ["kept", "cancelled"])
def test_the_self_check_works_in_bfloat16(checkpoint: Path, tmp_path: Path, how: str) -> None:
    class Lossy(InOrder):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            counts = torch.bincount(inputs["task_ids"], minlength=3).float()
            if how == "cancelled":
                self._whole_step = self._whole_step / (self._whole_step * counts).sum() / 10
            return super().compute_loss(model, inputs, *args, **kwargs)

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = Lossy(
        model=model, args=arguments(tmp_path, 2, 8, bf16=True), train_dataset=rows(),
        data_collator=with_task_ids(pad, TASKS), tasks=TASKS, weighting=WEIGHTS,
    )  # fmt: skip
    if how == "kept":
        trainer.train()
        assert 1e-5 < trainer.self_check.error < 0.2
    else:
        with pytest.raises(CotbalError, match="self-check"):
            trainer.train()


def test_rows_without_a_task_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    data = rows()
    data[3]["task"] = "d"
    with pytest.raises(CotbalError, match="one of a, b, c; found d"):
        update(checkpoint, tmp_path, 16, 1, data=data)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    bare = InOrder(
        model=model, args=arguments(tmp_path, 4, 4), train_dataset=rows(), tasks=TASKS, weighting=WEIGHTS,
        data_collator=lambda batch: pad([{k: v for k, v in row.items() if k != "task"} for row in batch]),
    )  # fmt: skip
    with pytest.raises(CotbalError, match="with_task_ids"):
        bare.train()


def test_arguments_that_would_replace_the_loss_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    common = {"model": model, "train_dataset": rows(), "tasks": TASKS, "weighting": WEIGHTS}
    with pytest.raises(CotbalError, match="label smoothing"):
        TaskWeightedTrainer(args=arguments(tmp_path, 4, 4, label_smoothing_factor=0.1), **common)
    with pytest.raises(CotbalError, match="compute_loss_func"):
        TaskWeightedTrainer(args=arguments(tmp_path, 4, 4), compute_loss_func=lambda *_: None, **common)


def test_evaluation_reports_the_plain_loss(checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    data = [row for i, row in enumerate(rows()) if i != 5]
    trainer = TaskWeightedTrainer(
        model=model, args=arguments(tmp_path, 4, 4, per_device_eval_batch_size=15), train_dataset=data,
        eval_dataset=data, data_collator=with_task_ids(pad, TASKS), tasks=TASKS, weighting=WEIGHTS,
    )  # fmt: skip
    found = trainer.evaluate()["eval_loss"]
    batch = pad([{k: v for k, v in row.items() if k != "task"} for row in data])
    with torch.no_grad():
        assert found == pytest.approx(float(model(**batch).loss), rel=1e-4)


if __name__ == "__main__":  # one rank of test_two_ranks_make_the_same_update
    where, scratch, per_device, windows, target = sys.argv[1:]
    found = update(Path(where), Path(scratch), int(per_device), int(windows))
    if os.environ["RANK"] == "0":
        torch.save({"change": copy.deepcopy(found["change"]), "log": json.dumps(found["log"])}, target)
