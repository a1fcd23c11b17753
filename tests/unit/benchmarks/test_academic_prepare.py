"""`cotbal prepare academic`: whole tasks or none, nothing made twice, every difference and error
reported.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from cotbal.benchmarks import academic
from cotbal.benchmarks.releases.benchmark import Prepared
from cotbal.benchmarks.releases.paper import FSDP2
from cotbal.data.checks.check import check_mixture
from cotbal.errors import CotbalError, DataError
from cotbal.recipe.recipe import load_recipe
from helpers import raw_releases as raw_files
from helpers.errors import a_line_names, raises
from helpers.shell import cotbal

TASKS = [
    "ShareGPT4V",
    "RefCOCO-caption",
    "VQAv2",
    "GQA",
    "ChartQA",
    "OCRVQA",
    "RefCOCO-bbox",
    "ShareGPT",
]
Prepare = Callable[..., Prepared]


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All eight releases; tests that change a file write their own."""
    return raw_files.everything(tmp_path_factory.mktemp("raw"))


@pytest.fixture
def prepare(tmp_path: Path, raw: Path) -> Prepare:
    """`prepare(*tasks, raw=..., model=..., **choices)` into one directory of this test."""

    def made(*tasks: str, model: str = "7b", source: Path = raw, **choices: Any) -> Prepared:
        places = academic.Places(source, tmp_path / "out")
        return academic.prepare(
            places, academic.Choices(**choices), silent, tasks=tasks or None, model=model
        )

    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def add_captions(directory: Path) -> None:
    """A second caption in test sets that hold one: CIDEr of a single record is always 0."""
    for path in directory.glob("data/RefCOCO-caption_*.jsonl"):
        record, *others = lines(path)
        if not others:
            second = {**record, "id": f"{record['id']}-second"}
            second["conversations"] = [
                record["conversations"][0],
                {"from": "gpt", "value": "A tall dog."},
            ]
            path.write_text(json.dumps(record) + "\n" + json.dumps(second) + "\n")


def test_the_command_makes_a_benchmark_that_check_accepts(raw: Path, tmp_path: Path) -> None:
    output = cotbal("prepare", "academic", raw, tmp_path / "out")
    assert a_line_names(output, "differs", "VQAv2 train", "-82,781 records", "-443,754 turns")
    assert a_line_names(output, "1 of 26")
    add_captions(tmp_path / "out")
    checked = cotbal("check", tmp_path / "out/recipe.yaml")
    assert "no errors" in checked


def test_the_recipe_carries_the_settings_of_the_paper(prepare: Prepare) -> None:
    recipe = load_recipe(prepare().recipe)
    assert [task.name for task in recipe.mixture.tasks] == TASKS
    assert [task.name for task in recipe.mixture.tasks if not task.balanced] == ["ShareGPT"]
    made = recipe.file.optimization
    assert (made.epochs, made.batch_size, made.learning_rate, made.schedule) == (
        1,
        128,
        2e-5,
        "cosine",
    )
    assert (made.warmup_ratio, recipe.model.dtype, recipe.model.max_length) == (
        0.03,
        "bfloat16",
        2048,
    )
    assert (str(recipe.file.portions.mini), recipe.file.portions.large) == ("1/32", 1)
    assert (recipe.file.balance.form, recipe.file.balance.temperature) == ("standard", 0.5)
    assert recipe.resources.gpus == 8
    assert recipe.resources.accelerate_config == recipe.path.parent / "accelerate.yaml"
    assert recipe.resources.accelerate_config.read_text().endswith(FSDP2)
    metrics = {task.name: task.metric for task in recipe.mixture.tasks if task.balanced}
    assert metrics == {
        "ShareGPT4V": "cider",
        "RefCOCO-caption": "cider",
        "VQAv2": "exact_match",
        "GQA": "exact_match",
        "ChartQA": "exact_match",
        "OCRVQA": "exact_match",
        "RefCOCO-bbox": "box_iou",
    }
    assert list(recipe.mixture["RefCOCO-bbox"].test) == [
        "RefCOCO_testA",
        "RefCOCO_testB",
        "RefCOCOg_test",
    ]


def test_the_larger_model_is_named(prepare: Prepare) -> None:
    assert (
        load_recipe(prepare("ShareGPT4V", model="13b").recipe).model.checkpoint
        == "llava-1.5-13b-base"
    )
    with raises(CotbalError, "invalid-option", "34b"):
        prepare("ShareGPT4V", model="34b")


def test_every_split_is_sound_for_the_trainer(prepare: Prepare, tmp_path: Path) -> None:
    recipe = load_recipe(prepare().recipe)
    add_captions(recipe.path.parent)
    report = check_mixture(recipe, tmp_path / "cache")
    assert report.problems == ()
    assert sum(task.missing + task.broken for task in report.tasks) == 0
    assert not any("have the id" in warning for warning in report.warnings)


def test_what_is_there_is_not_made_again(prepare: Prepare, tmp_path: Path) -> None:
    first = prepare("GQA", "ChartQA")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/data").iterdir()}
    again = prepare("GQA", "ChartQA", source=empty(tmp_path))
    assert again.splits == first.splits
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out/data").iterdir()} == stamps


def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir(exist_ok=True)
    return tmp_path / "empty"


@pytest.mark.parametrize("damage", ["cut", "gone", "no note"])
def test_half_a_task_is_made_again_whole(prepare: Prepare, tmp_path: Path, damage: str) -> None:
    prepare("GQA")
    train, note = tmp_path / "out/data/GQA_train.jsonl", tmp_path / "out/data/GQA.json"
    content = train.read_bytes()
    if damage == "cut":
        train.write_bytes(content[:-10])
    elif damage == "gone":
        train.unlink()
    else:
        note.unlink()
    prepare("GQA")
    assert train.read_bytes() == content
    assert note.is_file()


def test_tasks_come_into_the_recipe_as_they_are_prepared(prepare: Prepare) -> None:
    assert [task.name for task in load_recipe(prepare("GQA").recipe).mixture.tasks] == ["GQA"]
    both = prepare("VQAv2")
    assert [task.name for task in load_recipe(both.recipe).mixture.tasks] == ["VQAv2", "GQA"]
    assert {split.task for split in both.splits} == {"VQAv2", "GQA"}


def test_a_recipe_that_the_user_changed_is_left_alone(prepare: Prepare, tmp_path: Path) -> None:
    recipe = prepare("GQA").recipe
    changed = recipe.read_text().replace("epochs: 1 ", "epochs: 2 ")
    recipe.write_text(changed)
    new = prepare("VQAv2").recipe
    assert new == tmp_path / "out/recipe.new.yaml"
    assert recipe.read_text() == changed
    assert "VQAv2" in load_recipe(new).file.tasks


def test_files_of_others_are_not_written_over(prepare: Prepare, tmp_path: Path) -> None:
    theirs = tmp_path / "out/data/GQA_train.jsonl"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with raises(DataError, "existing-output", "GQA_train.jsonl"):
        prepare("GQA")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [
        "GQA_train.jsonl"
    ]
    assert theirs.read_text() == "mine"
    theirs.unlink()
    prepare("GQA")
    (tmp_path / "out/.lock").unlink()  # as in a copy without hidden files
    prepare("GQA")


@pytest.mark.parametrize(
    "note", ["{", "[]", '{"version": 1}', '{"version": 1, "choices": {}, "splits": [{}]}']
)
def test_a_broken_note_is_named(prepare: Prepare, tmp_path: Path, note: str) -> None:
    prepare("GQA")
    path = tmp_path / "out/data/GQA.json"
    path.write_text(note)
    with raises(DataError, "broken-file", "GQA.json"):
        prepare("GQA")
    path.unlink()
    prepare("GQA")


def test_other_choices_are_rejected_and_named(prepare: Prepare) -> None:
    prepare("GQA")
    with raises(DataError, "changed-settings", "GQA", "seed", "capitalize"):
        prepare("VQAv2", seed=1, capitalize=False)


def test_all_that_is_absent_is_named_at_once_and_what_is_there_too(
    prepare: Prepare, tmp_path: Path
) -> None:
    raw_files.gqa(tmp_path / "few")
    raw_files.vqav2_hub(tmp_path / "few")
    with raises(DataError, "missing-file") as caught:
        prepare("VQAv2", "GQA", "ShareGPT", source=tmp_path / "few")
    message = str(caught.value)
    assert a_line_names(message, tmp_path / "few", "VQAv2 train")
    assert "visualqa.org" in message
    assert "VQAv2 validation" not in message
    assert a_line_names(message, tmp_path / "few", "ShareGPT train")
    assert a_line_names(message, "mix665k", "liuhaotian/")
    assert "hf download anon8231489123/ShareGPT_Vicuna_unfiltered" in message
    assert message.endswith("--tasks GQA")
    assert not list((tmp_path / "out").rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("choices", "kind", "code", "option"),
    [
        ({"on_missing_image": "skip"}, CotbalError, "invalid-option", "--on-missing-image"),
        ({"prefer": "torrent"}, CotbalError, "invalid-option", "--prefer"),
        ({"max_tokens": 10}, CotbalError, "invalid-option", "--max-tokens"),
        (
            {"max_tokens": 10, "tokenizer": "nowhere"},
            DataError,
            "missing-file",
            "nowhere",
        ),
    ],
)
def test_unknown_choices_are_errors(
    prepare: Prepare, choices: dict[str, Any], kind: type[CotbalError], code: str, option: str
) -> None:
    with raises(kind, code, option):
        prepare("GQA", **choices)


def test_unknown_tasks_and_directories_are_rejected(prepare: Prepare, tmp_path: Path) -> None:
    with raises(CotbalError, "unknown-task", "--tasks", "gqa"):
        prepare("gqa")
    with raises(DataError, "missing-file", tmp_path / "nowhere"):
        prepare("GQA", source=tmp_path / "nowhere")
    places = academic.Places(empty(tmp_path), tmp_path / "out", tmp_path / "nowhere")
    with raises(DataError, "missing-file", "--images"):
        academic.prepare(places, academic.Choices(), silent)


def test_missing_images_stop_a_task_or_drop_records_or_are_kept(tmp_path: Path) -> None:
    raw_files.ocrvqa(tmp_path / "raw")
    (tmp_path / "raw/images/ocr_vqa/images/0439136350.jpg").unlink()

    def made(policy: str) -> Prepared:
        places = academic.Places(tmp_path / "raw", tmp_path / policy)
        return academic.prepare(
            places, academic.Choices(on_missing_image=policy), silent, tasks=["OCRVQA"]
        )

    with raises(DataError, "missing-image", "OCRVQA train", "0439136350.jpg"):
        made("error")
    assert not list((tmp_path / "error").rglob("OCRVQA_train*"))
    dropped, kept = made("drop"), made("keep")
    train = dropped.splits[0]
    assert (train.records, train.turns, train.present, train.missing, train.dropped) == (
        1,
        2,
        1,
        1,
        1,
    )
    assert (kept.splits[0].records, kept.splits[0].missing, kept.splits[0].dropped) == (2, 1, 0)
    policies = [load_recipe(prepared.recipe).file.on_missing_image for prepared in (dropped, kept)]
    assert policies == ["drop", "error"]


def test_images_can_lie_elsewhere(tmp_path: Path) -> None:
    raw_files.gqa(tmp_path / "raw")
    (tmp_path / "raw/images").rename(tmp_path / "elsewhere")
    places = academic.Places(tmp_path / "raw", tmp_path / "out", tmp_path / "elsewhere")
    made = academic.prepare(places, academic.Choices(), silent, tasks=["GQA"])
    assert sum(split.missing for split in made.splits) == 0


def test_an_unknown_key_is_rejected_unless_the_user_ignores_it(tmp_path: Path) -> None:
    raw_files.gqa(tmp_path / "raw")
    path = tmp_path / "raw/gqa/questions1.2/val_balanced_questions.json"
    content = json.loads(path.read_text())
    next(iter(content.values()))["difficulty"] = 3
    path.write_text(json.dumps(content))
    arguments = ("prepare", "academic", tmp_path / "raw", tmp_path / "out", "--tasks", "GQA")
    output = cotbal(*arguments, code=2)
    assert "val_balanced_questions.json, question 03930152: unknown key 'difficulty'" in output
    assert "Traceback" not in output
    assert not (tmp_path / "out/data/GQA.json").exists()
    assert "GQA" in cotbal(*arguments, "--ignore-keys", "difficulty")


def test_conversations_end_before_the_turn_that_is_too_long(
    prepare: Prepare, tmp_path: Path
) -> None:
    """One word is one token here, and the end of a turn is one more."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    whole = lines(tmp_path / "out" / prepare("RefCOCO-bbox").splits[0].file)
    turn = (
        len(
            [
                "USER:",
                "Please",
                "provide",
                "the",
                "bounding",
                "box",
                "coordinate",
                "of",
                "the",
                "region",
            ]
        )
        + 1
    )
    turn += len(
        [
            "this",
            "sentence",
            "describes:",
            "the",
            "lady",
            "number",
            "0.",
            "ASSISTANT:",
            "[0.1,",
            "0.2,",
            "0.3,",
            "0.35]",
        ]
    )
    places = academic.Places(Path(raw_files.everything(tmp_path / "raw")), tmp_path / "cut")
    choices = academic.Choices(max_tokens=3 * turn, tokenizer=str(tmp_path))
    made = academic.prepare(places, choices, silent, tasks=["RefCOCO-bbox"])
    cut = lines(tmp_path / "cut" / made.splits[0].file)
    assert [len(record["conversations"]) // 2 for record in whole] == [9, 2, 1]
    assert [len(record["conversations"]) // 2 for record in cut] == [3, 2, 1]
    assert cut[0]["conversations"] == whole[0]["conversations"][:6]


def test_a_hub_command_puts_its_files_where_they_are_sought_and_the_guide_shows_it() -> None:
    guide = (Path(__file__).parents[3] / "docs/benchmarks.md").read_text()
    sources = [
        source for plan in academic.plans() for split in plan.splits for source in split.sources
    ]
    commands = [source for source in sources if source.get.startswith("hf download")]
    assert len(commands) > 15
    for source in commands:
        repository, *_ = source.get.removeprefix("hf download ").split()
        assert f"--local-dir RAW/{repository}" in source.get
        assert not re.search(r"--include '[^']*' '", source.get), "hf takes one pattern an option"
        owner, name = repository.split("/")
        for pattern in source.files.values():
            assert pattern.startswith((f"{owner}/{name}", f"{owner}*/{name}/")), source.get
        assert f"hf download {repository} " in guide


KILLED = """
import os, signal, sys
from pathlib import Path
from cotbal.benchmarks import academic

def progress(what, done, total):
    if what.startswith("testdev"):
        os.kill(os.getpid(), signal.SIGKILL)

places = academic.Places(Path(sys.argv[1]), Path(sys.argv[2]))
academic.prepare(places, academic.Choices(), progress, tasks=["VQAv2", "GQA"])
"""


def test_a_killed_preparation_resumes_and_leaves_nothing_half(
    raw: Path, prepare: Prepare, tmp_path: Path
) -> None:
    data = tmp_path / "out/data"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, raw, tmp_path / "out"], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(data.glob(".GQA_testdev*")), "it died in the middle of this file"
    assert not (data / "GQA_testdev.jsonl").exists()
    assert not (tmp_path / "out/recipe.yaml").exists()
    stamp = (data / "VQAv2_train.jsonl").stat().st_mtime_ns
    prepare("VQAv2", "GQA")
    assert (data / "VQAv2_train.jsonl").stat().st_mtime_ns == stamp
    assert len(lines(data / "GQA_testdev.jsonl")) == 3
    assert not list(data.glob(".*"))
