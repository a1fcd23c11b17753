"""TRL's SFTTrainer with task weights: everything of TRL's stays, and the loss is that of
TaskWeightedTrainer.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset
from peft import LoraConfig
from PIL import Image
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from cotbal.errors import CotbalError, MissingDependency
from cotbal.training.trainers.hf import with_task_ids
from cotbal.training.trainers.step import by_task
from cotbal.training.trainers.trl import TaskWeightedSFTTrainer
from cotbal.weightings import Static
from helpers.errors import raises
from helpers.trainer_cases import EQUAL, TASKS, WEIGHTS, InOrder, arguments, distance, flat

COUNT = 12
COLOURS = ("red", "green", "blue")


class Weighted(TaskWeightedSFTTrainer):
    """Rows in the order given."""

    def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler:
        return SequentialSampler(self.train_dataset)


class Stock(SFTTrainer):
    """TRL's own, rows in the order given."""

    def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler:
        return SequentialSampler(self.train_dataset)


def conversation(i: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Question and answer of a row; answers have very different lengths, neighbours share a
    task."""
    answer = " ".join([COLOURS[i % 3]] * (1 + (5 * i) % 7))
    return {"role": "user", "content": f"Which color has number {i}?"}, {
        "role": "assistant",
        "content": answer,
    }


def rows(form: str) -> Dataset:
    made = []
    for i in range(COUNT):
        question, answer = conversation(i)
        task = TASKS[(i * 3) // COUNT]
        row: dict[str, Any] = {"messages": [question, answer]}
        if not form.endswith("messages"):
            row = {"prompt": [question], "completion": [answer]}
        if form == "plain":
            row = {"prompt": question["content"], "completion": answer["content"]}
        if form.startswith("image"):
            row["images"] = [] if i == 1 else [Image.new("RGB", (48, 48), COLOURS[i % 3])]
        made.append({**row, "task": task})
    return Dataset.from_list(made)


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    return AutoProcessor.from_pretrained(checkpoint)


def model_for(form: str, checkpoint: Path) -> Any:
    if form.startswith("image"):
        return AutoModelForImageTextToText.from_pretrained(checkpoint)
    torch.manual_seed(0)
    size = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    size |= {"vocab_size": 2048, "num_key_value_heads": 2}
    if form == "experts":
        experts = {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "head_dim": 8,
        }
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**size, **experts, router_aux_loss_coef=1.0))
    return LlamaForCausalLM(LlamaConfig(**size))


def trained(
    form: str,
    checkpoint: Path,
    directory: Path,
    micro: int,
    accumulation: int,
    weighting: Any = WEIGHTS,
    **more: Any,
) -> dict[str, Any]:
    """What SGD with learning rate 1 subtracts, by our trainer, or by the stock one for
    `weighting=None`.
    """
    model, processor = model_for(form, checkpoint), AutoProcessor.from_pretrained(checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    options = {
        key: more.pop(key)
        for key in ("compute_loss_func", "eval_dataset", "peft_config")
        if key in more
    }
    data = more.pop("data", None) or rows(form)
    if form.endswith("messages"):
        more["assistant_only_loss"] = True
    # TRL's default, by the name that transformers wants to hear.
    settings = arguments(
        directory,
        micro,
        accumulation,
        config=SFTConfig,
        bf16=False,
        activation_checkpointing=True,
        **more,
    )
    processing = processor if form.startswith("image") else processor.tokenizer
    common = {
        "model": model,
        "args": settings,
        "train_dataset": data,
        "processing_class": processing,
        **options,
    }
    trainer = (
        Stock(**common)
        if weighting is None
        else Weighted(**common, tasks=TASKS, weighting=weighting)
    )
    trainer.train()
    change = {
        name: before[name] - p.detach() for name, p in model.named_parameters() if name in before
    }
    return {
        "change": change,
        "log": [by_task(line) for line in trainer.state.log_history],
        "trainer": trainer,
    }


@cache
def once(form: str, checkpoint: Path, micro: int, accumulation: int) -> dict[str, Any]:
    """The training without any other setting; not to be changed."""
    with tempfile.TemporaryDirectory() as directory:
        return trained(form, checkpoint, Path(directory), micro, accumulation)


def in_test_all(case: Any) -> Any:
    """A case that takes long and differs little from one of `make test`."""
    return pytest.param(case, marks=pytest.mark.extended)


@pytest.mark.parametrize(
    "form",
    ["prompt", "image", *map(in_test_all, ("plain", "messages", "image messages", "experts"))],
)
def test_equal_weights_are_the_stock_trainer(checkpoint: Path, tmp_path: Path, form: str) -> None:
    stock = trained(form, checkpoint, tmp_path, 3, 4, None)
    ours = trained(form, checkpoint, tmp_path, 3, 4, EQUAL)
    assert flat(stock).norm() > 0.01
    assert distance(ours, stock) < 1e-6
    assert ours["log"][0]["loss"] == pytest.approx(stock["log"][0]["loss"], rel=1e-6)


def test_the_metrics_of_an_evaluation_are_trl_s(checkpoint: Path, tmp_path: Path) -> None:
    lines = []
    for weighting in (EQUAL, None):
        trainer = trained(
            "image", checkpoint, tmp_path, 3, 4, weighting, eval_dataset=rows("image")
        )["trainer"]
        lines.append(
            {name: value for name, value in trainer.evaluate().items() if "_per_" not in name}
        )
    for line in lines:
        line.pop("eval_runtime")
    assert {"eval_loss", "eval_entropy", "eval_mean_token_accuracy"} <= lines[0].keys()
    assert lines[0] == pytest.approx(
        {**lines[1], "eval_num_tokens": lines[0]["eval_num_tokens"]}, rel=1e-5
    )


@pytest.mark.parametrize("form", ["prompt", in_test_all("image")])
def test_the_update_depends_on_weights_and_not_on_micro_batches(
    checkpoint: Path, tmp_path: Path, form: str
) -> None:
    whole = once(form, checkpoint, 12, 1)
    for micro, accumulation in ((4, 3), (1, 12)):
        assert distance(once(form, checkpoint, micro, accumulation), whole) < 1e-5
    scaled = Static(tuple(10 * w for w in WEIGHTS.values))
    assert distance(trained(form, checkpoint, tmp_path, 1, 12, scaled), whole) < 1e-5
    assert distance(trained(form, checkpoint, tmp_path, 1, 12, EQUAL), whole) > 0.05
    assert whole["trainer"].self_check.error < 1e-3
    assert set(whole["log"][0]["task_losses"]) == set(TASKS)


def test_images_become_many_tokens_and_the_update_is_that_of_the_other_trainer(
    checkpoint: Path, tmp_path: Path
) -> None:
    """TaskWeightedTrainer with TRL's collator: it makes logits and looks them up by labels and task
    ids of its own.
    """
    ours = once("image", checkpoint, 4, 3)
    processor = AutoProcessor.from_pretrained(checkpoint)
    collator = DataCollatorForVisionLanguageModeling(
        processor, max_length=1024, completion_only_loss=True
    )
    batch = with_task_ids(collator, TASKS)([rows("image")[i] for i in (0, 1, 11)])
    assert (batch["input_ids"] == processor.image_token_id).sum(dim=1).tolist() == [36, 0, 36]
    assert batch["task_ids"].tolist() == [0, 0, 2]
    model = model_for("image", checkpoint)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    InOrder(
        model=model,
        args=arguments(tmp_path, 4, 3),
        train_dataset=rows("image"),
        data_collator=with_task_ids(collator, TASKS),
        tasks=TASKS,
        weighting=WEIGHTS,
    ).train()
    change = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    assert distance(ours, {"change": change}) < 1e-5


@pytest.mark.parametrize(
    ("joined", "micro"),
    [
        ("packing", 4),
        ("padding_free", 4),
        pytest.param("padding_free", 12, marks=pytest.mark.extended),
    ],
)
def test_joined_rows_keep_their_tasks(
    checkpoint: Path, tmp_path: Path, joined: str, micro: int
) -> None:
    """One step over all rows, so that their order does not matter."""
    padded = once("prompt", checkpoint, 12, 1)
    layout: dict[str, Any] = (
        {"packing": True, "max_length": 64} if joined == "packing" else {"max_length": None}
    )
    packed = trained(
        "prompt",
        checkpoint,
        tmp_path,
        micro,
        12 // micro,
        padding_free=True,
        **layout,
        num_train_epochs=1,
        max_steps=-1,
    )
    assert (len(packed["trainer"].train_dataset) < 12) == (joined == "packing")
    line = packed["log"][0]
    assert line["task_tokens"] == padded["log"][0]["task_tokens"]
    assert len(set(line["task_tokens"].values())) == 3
    assert distance(packed, padded) < 1e-4
    assert packed["trainer"].self_check.error < 1e-3


def test_the_task_survives_the_removal_of_unused_columns(checkpoint: Path, tmp_path: Path) -> None:
    kept = trained("prompt", checkpoint, tmp_path, 3, 4)
    assert (
        distance(trained("prompt", checkpoint, tmp_path, 3, 4, remove_unused_columns=True), kept)
        < 1e-6
    )


def test_a_training_resumes_from_its_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    steps = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.1}
    straight = trained("image", checkpoint, tmp_path, 2, 2, **steps)
    model = model_for("image", checkpoint)
    settings = arguments(
        tmp_path, 2, 2, config=SFTConfig, bf16=False, activation_checkpointing=True, **steps
    )
    processor = AutoProcessor.from_pretrained(checkpoint)
    again = Weighted(
        model=model,
        args=settings,
        train_dataset=rows("image"),
        processing_class=processor,
        tasks=TASKS,
        weighting=WEIGHTS,
    )
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    end = dict(straight["trainer"].model.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, end[name])


REJECTED = {  # arguments, and what the message names
    "dft": ({"loss_type": "dft"}, ("loss_type='dft'", "loss_type='nll'")),
    "wrapped": (
        {"packing": True, "packing_strategy": "wrapped"},
        ("packing_strategy='wrapped'", "packing_strategy='bfd'"),
    ),
    "split": (
        {"packing": True, "packing_strategy": "bfd_split"},
        ("packing_strategy='bfd_split'", "packing_strategy='bfd'"),
    ),
    "smoothing": ({"label_smoothing_factor": 0.1}, ("label_smoothing_factor",)),
    "liger": ({"use_liger_kernel": True}, ("use_liger_kernel", "liger_kernel_config")),
    "function": ({"compute_loss_func": lambda *_: None}, ("compute_loss_func",)),
}


@pytest.mark.parametrize("what", REJECTED)
def test_what_would_lose_the_weights_is_rejected(
    checkpoint: Path, tmp_path: Path, what: str
) -> None:
    options, names = REJECTED[what]
    with raises(CotbalError, "unsupported-argument", *names):
        trained("prompt", checkpoint, tmp_path, 3, 4, **options)


def test_positional_arguments_are_validated_too(checkpoint: Path, tmp_path: Path) -> None:
    settings = arguments(
        tmp_path,
        3,
        4,
        config=SFTConfig,
        bf16=False,
        activation_checkpointing=True,
        label_smoothing_factor=0.1,
    )
    with raises(CotbalError, "unsupported-argument", "label_smoothing_factor"):
        TaskWeightedSFTTrainer(
            model_for("prompt", checkpoint), settings, tasks=TASKS, weighting=WEIGHTS
        )


def test_without_trl_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "cotbal.training.trainers.trl")
    with raises(MissingDependency, "missing-dependency", 'pip install "cotbal[trl]"'):
        importlib.import_module("cotbal.training.trainers.trl")


def test_adapters_are_trained_as_by_the_stock_trainer(checkpoint: Path, tmp_path: Path) -> None:
    adapters = []
    for weighting in (EQUAL, None):
        lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        trainer = trained("image", checkpoint, tmp_path, 3, 4, weighting, peft_config=lora)[
            "trainer"
        ]
        adapters.append(
            {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        )
    assert adapters[0].keys() == adapters[1].keys()
    assert any(p.abs().max() > 1e-3 for name, p in adapters[0].items() if "lora_B" in name)
    for name, parameter in adapters[0].items():
        torch.testing.assert_close(parameter, adapters[1][name])


def test_losses_on_placeholders_of_images_are_rejected(checkpoint: Path, tmp_path: Path) -> None:
    data = rows("image messages")
    for options in ({"data": data}, {"completion_only_loss": False}):
        with raises(CotbalError, "image-in-labels", "`prompt`", "assistant_only_loss"):
            trained("image", checkpoint, tmp_path, 3, 4, **options)


def test_a_template_that_does_not_mark_the_assistant_is_rejected(
    checkpoint: Path, tmp_path: Path
) -> None:
    """By TRL itself, before the first step."""
    template = tmp_path / "plain.jinja"
    template.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    for form in ("messages", "image messages"):
        with pytest.raises(ValueError, match="chat template"):
            trained(form, checkpoint, tmp_path, 3, 4, chat_template_path=str(template))


def test_rows_without_a_known_task_are_rejected(checkpoint: Path, tmp_path: Path) -> None:
    with raises(CotbalError, "missing-task", "'task'", "prompt, completion"):
        trained("prompt", checkpoint, tmp_path, 3, 4, data=rows("prompt").remove_columns("task"))
    strange = rows("prompt").to_list()
    strange[5]["task"] = "d"
    for options in ({}, {"packing": True}):
        for data in (Dataset.from_list(strange), Dataset.from_list(strange).to_iterable_dataset()):
            with raises(CotbalError, "unknown-task", "a, b, c", "found d"):
                trained("prompt", checkpoint, tmp_path, 3, 4, data=data, **options)


def test_tasks_are_validated_before_anything_is_prepared(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row at the end of a mixture must not end a training of many hours."""
    monkeypatch.setattr(SFTTrainer, "_prepare_dataset", None)
    numbered = rows("prompt").cast_column("task", ClassLabel(names=list(TASKS)))
    with raises(CotbalError, "unknown-task", "a, b, c", "found 0", "ClassLabel"):
        trained("prompt", checkpoint, tmp_path, 3, 4, data=numbered)


@pytest.mark.parametrize(
    "options",
    [{}, *map(in_test_all, ({"packing": True, "max_length": 64}, {"padding_free": True}))],
)
def test_rows_to_evaluate_need_no_task(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Their loss has no weights, and a training must not end at its first evaluation."""
    bare = rows("prompt").remove_columns("task")
    more = {"max_length": None, "eval_strategy": "steps", "eval_steps": 1, **options}
    log = trained(
        "prompt", checkpoint, tmp_path, 12, 1, eval_dataset={"one": bare, "two": bare}, **more
    )["log"]
    losses = [
        line[key] for line in log for key in ("eval_one_loss", "eval_two_loss") if key in line
    ]
    assert len(losses) == 2
    with_tasks = trained(
        "prompt", checkpoint, tmp_path, 12, 1, eval_dataset=rows("prompt"), **more
    )["log"]
    assert losses == pytest.approx(
        [line["eval_loss"] for line in with_tasks if "eval_loss" in line] * 2, rel=1e-5
    )


def test_rows_that_are_not_prepared_may_be_joined(checkpoint: Path, tmp_path: Path) -> None:
    whole = once("prompt", checkpoint, 12, 1)
    ready = whole["trainer"].train_dataset.select_columns(["input_ids", "labels", "task"])
    options = {
        "padding_free": True,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    assert (
        distance(trained("prompt", checkpoint, tmp_path, 4, 3, data=ready, **options), whole) < 1e-4
    )


@pytest.mark.parametrize("form", ["prompt", "image"])
def test_the_collator_may_be_sent_to_workers(checkpoint: Path, form: str) -> None:
    """Where they are not forked: on macOS, and from Python 3.14 on."""
    trainer = once(form, checkpoint, 12, 1)["trainer"]
    batch = pickle.loads(pickle.dumps(trainer.data_collator))(
        [trainer.train_dataset[i] for i in (0, 11)]
    )
    assert batch["task_ids"].tolist() == [0, 2]


def test_packing_without_a_length_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    with raises(CotbalError, "missing-max-length", "packing", "max_length"):
        trained("prompt", checkpoint, tmp_path, 3, 4, packing=True, max_length=None)
