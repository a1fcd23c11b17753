"""What every trainer gets, against the facts that were read in its sources."""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cotbal.errors import CotbalError
from helpers.errors import raises
from helpers.export_cases import POCKET, SIZES, WEIGHTS, configuration, exported, rows_of

RECORDS = sum(SIZES.values())
REPEATING = ("llamafactory", "axolotl", "trl")


def test_ms_swift_weighs_every_answer(recipe: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    exported("ms-swift", recipe, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert Counter(row["channel"] for row in rows) == SIZES
    weighed: dict[str, set[float]] = {task: set() for task in SIZES}
    tokens = total = 0.0
    count = Tokenizer.from_file(str(POCKET / "tokenizer.json"))
    for row in rows:
        for message in row["messages"]:
            assert ("loss_scale" in message) == (message["role"] == "assistant")
            if message["role"] == "assistant":
                weighed[row["channel"]].add(message["loss_scale"])
                length = len(count.encode(message["content"]).ids) + 1
                tokens, total = tokens + length, total + length * message["loss_scale"]
    assert total / tokens == pytest.approx(1)
    (short,), (talk,), (extra,) = weighed["short"], weighed["talk"], weighed["extra"]
    assert short / talk == pytest.approx(WEIGHTS["short"] / WEIGHTS["talk"])
    assert extra / talk == pytest.approx(1 / WEIGHTS["talk"])


def test_ms_swift_gets_what_makes_weights_act(recipe: Path, tmp_path: Path) -> None:
    guide = exported(
        "ms-swift", recipe, tmp_path / "out", "optimization.schedule=constant", "model.vision=full"
    )
    settings = configuration(tmp_path / "out")
    assert settings["is_binary_loss_scale"] is False
    assert settings["loss_scale"] == "default"
    assert settings["external_plugins"] == ["cotbal_weights.py"]
    assert (tmp_path / "out" / "cotbal_weights.py").is_file()
    assert settings["model"] == str(POCKET)
    assert (settings["freeze_vit"], settings["freeze_aligner"], settings["freeze_llm"]) == (
        False,
        False,
        False,
    )
    assert (settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]) == (
        2,
        4,
    )
    assert (settings["lr_scheduler_type"], settings["warmup_ratio"], settings["learning_rate"]) == (
        "constant",
        0.03,
        1e-4,
    )
    assert guide.command == "swift sft train.yaml"
    assert "normalizer: tokens" in guide.text


def test_conversations_are_brought_over(recipe: Path, tmp_path: Path) -> None:
    exported("ms-swift", recipe, tmp_path / "out")
    rows = {row["channel"]: row for row in rows_of(tmp_path / "out")}
    said = [(m["role"], m["content"]) for m in rows["talk"]["messages"]]
    assert said == [
        ("system", "Be brief."),
        ("user", "Hello."),
        ("assistant", "Good day."),
        ("user", "Compare <image>\nand <image>."),
        ("assistant", "Both are red, one more so."),
    ]
    assert rows["short"]["messages"][0]["content"] == "<image>Which color?\nAnswer in one word."
    assert rows["extra"]["images"] == []
    images = rows["talk"]["images"]
    assert [Path(name).name for name in images] == ["a.png", "b.png"]
    assert all(Path(name).is_absolute() and Path(name).is_file() for name in images)


def swift_plugin(monkeypatch: pytest.MonkeyPatch, out: Path, encoded: Any) -> Any:
    """The exported plugin, loaded beside a stand-in for the one class of ms-swift that it
    touches."""
    template = type("Template", (), {"encode": lambda self, row: encoded})
    module: Any = ModuleType("swift.template")
    module.Template = template
    monkeypatch.setitem(sys.modules, "swift", SimpleNamespace(template=module))
    monkeypatch.setitem(sys.modules, "swift.template", module)
    exec(
        compile((out / "cotbal_weights.py").read_text(), "cotbal_weights.py", "exec"),
        {"__name__": "plugin"},
    )
    return template().encode({})


@pytest.mark.parametrize(
    ("scale", "laid"),
    [
        (
            [0, 0, 1.6, 1, 0, 1.6, 1],
            [0, 0, 0, 1.6, 1.6, 0, 1.6, 1.6],
        ),  # ends of turns get the weight; a token longer
        ([0, 0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 1, 0, 1, 1]),  # a weight of 1
        ([0, 0, 1.6, 1, 0, 0.4, 1], [0, 0, 1.6, 1, 0, 0.4, 1]),  # not ours
        (None, None),
    ],
)
def test_the_plugin_lays_weights_along_the_labels(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: list[float] | None,
    laid: list[float] | None,
) -> None:
    exported("ms-swift", recipe, tmp_path / "out")
    row = {"labels": [-100, -100, -100, 5, 6, -100, 5, 6], "loss_scale": scale}
    assert swift_plugin(monkeypatch, tmp_path / "out", row)["loss_scale"] == laid
    row = {"labels": [-100, -100, -100, 5, 6, -100, 5, 6], "loss_scale": scale}
    assert swift_plugin(monkeypatch, tmp_path / "out", [row])[0]["loss_scale"] == laid


@pytest.mark.parametrize(
    ("scale", "laid"),
    [
        ([0, 0, 1.6, 1, 0, 0, 1], [0, 0, 0, 1.6, 1.6, 0, 0]),
        ([0, 0, 0, 1, 0, 1.6, 1], [0, 0, 0, 0, 0, 0, 1.6]),
    ],
)
def test_the_plugin_leaves_answers_of_weight_0_without_loss(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: list[float],
    laid: list[float],
) -> None:
    exported("ms-swift", recipe, tmp_path / "out")
    row: dict[str, Any] = {"labels": [-100, -100, -100, 5, 6, -100, 6], "loss_scale": scale}
    assert swift_plugin(monkeypatch, tmp_path / "out", row)["loss_scale"] == laid
    row = {"labels": [-100, -100, -100, 5, 6, 6], "loss_scale": scale}
    with pytest.raises(ValueError, match="cotbal_weights"):
        swift_plugin(monkeypatch, tmp_path / "out", row)


@pytest.fixture
def marked(recipe: Path) -> Path:
    """The recipe, the first answer of each talk and one short answer marked to carry no loss."""
    for task, number in (("talk", SIZES["talk"]), ("short", 1)):
        path = recipe.parent / f"{task}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows[:number]:
            next(t for t in row["conversations"] if t["from"] == "gpt")["loss"] = False
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recipe


def test_ms_swift_gets_no_loss_for_marked_answers(marked: Path, tmp_path: Path) -> None:
    (marked.parent / "weights.json").write_text('{"short": 1.0, "talk": 1.0}')
    exported("ms-swift", marked, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert Counter(row["channel"] for row in rows) == SIZES | {"short": SIZES["short"] - 1}
    scales = {
        (row["channel"], m["content"]): m["loss_scale"]
        for row in rows
        for m in row["messages"]
        if m["role"] == "assistant"
    }
    assert scales["talk", "Good day."] == 0
    assert scales["talk", "Both are red, one more so."] == pytest.approx(1)
    assert 1 not in scales.values()  # what tokens have that no message weighs


@pytest.mark.parametrize("trainer", ["trl", "llamafactory"])
def test_marked_answers_are_no_row_of_their_own(marked: Path, tmp_path: Path, trainer: str) -> None:
    exported(trainer, marked, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert rows
    for row in rows:
        said = (
            row["messages"] if trainer == "llamafactory" else [*row["prompt"], *row["completion"]]
        )
        assert said[-1]["role"] == "assistant"
        assert "Good day." not in json.dumps(said[-1])
    assert ("Good day." in json.dumps(rows)) is True
    if trainer == "llamafactory":
        assert configuration(tmp_path / "out")["mask_history"] is True


def test_llamafactory_keeps_conversations_whole_without_marks(recipe: Path, tmp_path: Path) -> None:
    exported("llamafactory", recipe, tmp_path / "out")
    assert "mask_history" not in configuration(tmp_path / "out")
    assert max(len(row["messages"]) for row in rows_of(tmp_path / "out")) == 5


def test_axolotl_cannot_leave_answers_without_loss(marked: Path, tmp_path: Path) -> None:
    with raises(CotbalError, "unsupported-record", "task short", "short.jsonl", "record 1"):
        exported("axolotl", marked, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("trainer", REPEATING)
def test_trainers_without_weights_see_rows_more_or_less_often(
    recipe: Path, tmp_path: Path, trainer: str
) -> None:
    guide = exported(trainer, recipe, tmp_path / "out")
    asked = Counter(json.dumps(row)[:400] for row in rows_of(tmp_path / "out"))
    total = sum(WEIGHTS[t] * SIZES[t] for t in WEIGHTS) + SIZES["extra"]
    times = {task: weight * RECORDS / total for task, weight in (WEIGHTS | {"extra": 1.0}).items()}
    seen = {
        task: sum(n for text, n in asked.items() if mark in text) for task, mark in MARKS.items()
    }
    turns = {"short": 1, "talk": 2 if trainer == "trl" else 1, "extra": 1}
    assert seen == {task: round(times[task] * SIZES[task]) * turns[task] for task in SIZES}
    assert "Approximate" in guide.text


MARKS = {"short": "Which color", "talk": "Hello", "extra": "Say something"}


def test_llamafactory(recipe: Path, tmp_path: Path) -> None:
    exported(
        "llamafactory", recipe, tmp_path / "out", "model.language=lora", "model.projector=lora"
    )
    entry = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["cotbal"]
    settings = configuration(tmp_path / "out")
    assert (settings["dataset"], settings["dataset_dir"], entry["file_name"]) == (
        "cotbal",
        ".",
        "train.jsonl",
    )
    assert (entry["formatting"], entry["columns"]) == (
        "sharegpt",
        {"messages": "messages", "images": "images"},
    )
    assert (settings["finetuning_type"], settings["lora_rank"], settings["lora_alpha"]) == (
        "lora",
        16,
        32,
    )
    for row in rows_of(tmp_path / "out"):
        text = "".join(message[entry["tags"]["content_tag"]] for message in row["messages"])
        assert text.count("<image>") == len(row["images"])
        assert {message["role"] for message in row["messages"]} <= set(entry["tags"].values())


def test_axolotl(recipe: Path, tmp_path: Path) -> None:
    guide = exported("axolotl", recipe, tmp_path / "out", "model.language=lora")
    assert "prompt as well" in guide.text
    settings = configuration(tmp_path / "out")
    assert settings["datasets"] == [
        {"path": "train.jsonl", "ds_type": "json", "type": "chat_template"}
    ]
    assert (
        settings["skip_prepare_dataset"],
        settings["remove_unused_columns"],
        settings["sample_packing"],
    ) == (
        True,
        False,
        False,
    )
    assert (settings["adapter"], settings["lora_r"], settings["bf16"]) == ("lora", 16, True)
    parts = [
        part for row in rows_of(tmp_path / "out") for m in row["messages"] for part in m["content"]
    ]
    assert {part["type"] for part in parts} == {"text", "image"}
    assert all(Path(part["path"]).is_file() for part in parts if part["type"] == "image")
    assert not any("<image>" in part.get("text", "") for part in parts)


def test_trl_gets_an_answer_a_row(recipe: Path, tmp_path: Path) -> None:
    exported("trl", recipe, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    for row in rows:
        assert [message["role"] for message in row["completion"]] == ["assistant"]
        assert row["prompt"][-1]["role"] == "user"
        shown = [
            part
            for message in row["prompt"]
            for part in message["content"]
            if part["type"] == "image"
        ]
        assert len(shown) == len(row["images"])
    answers = Counter(row["completion"][0]["content"][0]["text"] for row in rows)
    assert answers["Good day."] == answers["Both are red, one more so."] > 0


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.language=full", ("float32", True)),
        ("model.language=lora", ("bfloat16", True)),
        ("model.dtype=float32", ("float32", False)),
    ],
)
def test_parameters_trained_in_full_are_loaded_in_float32(
    recipe: Path, tmp_path: Path, override: str, expected: tuple[str, bool]
) -> None:
    """Bfloat16 rounds small updates away, and ms-swift by itself computes float32 in float16."""
    exported("ms-swift", recipe, tmp_path / "swift", override)
    settings = configuration(tmp_path / "swift")
    assert (settings["torch_dtype"], settings["bf16"]) == expected
    assert settings["fp16"] is False
    exported("trl", recipe, tmp_path / "trl", override)
    script = (tmp_path / "trl" / "train.py").read_text()
    assert f"'model_init_kwargs': {{'dtype': '{expected[0]}'}}" in script


def test_the_script_for_trl(recipe: Path, tmp_path: Path) -> None:
    exported("trl", recipe, tmp_path / "plain")
    exported("trl", recipe, tmp_path / "lora", "model.language=lora")
    values = {}
    for name in ("plain", "lora"):
        tree = ast.parse((tmp_path / name / "train.py").read_text())
        values[name] = {n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign)}
    arguments = ast.literal_eval(values["plain"]["ARGUMENTS"])
    assert (arguments["max_length"], arguments["bf16"], arguments["warmup_steps"]) == (
        512,
        True,
        0.03,
    )
    assert ast.literal_eval(values["plain"]["LORA"]) is None
    assert ast.literal_eval(values["lora"]["LORA"]) == {
        "r": 16,
        "lora_alpha": 32.0,
        "lora_dropout": 0.0,
    }


def test_a_mixture_of_text_has_no_images_for_trl(recipe: Path, tmp_path: Path) -> None:
    extra = {"train": "extra.jsonl", "validation": "extra_validation.jsonl"}
    text = f"tasks={json.dumps({'extra': extra})}"
    (recipe.parent / "weights.json").write_text('{"extra": 1.0}')
    exported("trl", recipe, tmp_path / "out", text)
    assert {tuple(row) for row in rows_of(tmp_path / "out")} == {("prompt", "completion")}


def test_ratios(recipe: Path, tmp_path: Path) -> None:
    guide = exported("ratios", recipe, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "ratios.csv").read_text().splitlines()))
    assert [row["task"] for row in rows] == list(SIZES)
    numbers = {row["task"]: {k: float(v) for k, v in row.items() if k != "task"} for row in rows}
    assert sum(
        numbers_of_task["probability"] for numbers_of_task in numbers.values()
    ) == pytest.approx(1)
    assert sum(
        numbers_of_task["times"] * numbers_of_task["records"]
        for numbers_of_task in numbers.values()
    ) == pytest.approx(RECORDS)
    for numbers_of_task in numbers.values():
        assert numbers_of_task["probability"] == pytest.approx(
            numbers_of_task["times"] * numbers_of_task["records"] / RECORDS
        )
        assert numbers_of_task["rows"] == round(
            numbers_of_task["times"] * numbers_of_task["records"]
        )
    assert numbers["short"]["times"] / numbers["talk"]["times"] == pytest.approx(4)
    assert "variance" in guide.text
