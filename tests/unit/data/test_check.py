from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from cotbal.data.batches.lengths import Item, Length
from cotbal.data.checks.check import CheckReport, check_mixture
from cotbal.data.reading.record import Record
from cotbal.data.reading.records import open_records
from cotbal.errors import CotbalError, DataError
from cotbal.jobs.inputs import open_inputs
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.scores.measure import load_metric
from helpers.errors import names_all, raises
from helpers.record_rows import image, llava, talk, write


def rows(split: str, n: int = 3) -> list[dict[str, Any]]:
    return [
        llava(f"{split}{i}", f"<image>\nWhat is {split} {i}?", image=f"{split}.png", task="vqa")
        for i in range(n)
    ]


COLOURS = {"train": "red", "validation": "blue", "test": "green"}


class Words:
    """A meter whose tokens are the words of the answers, behind ten for each image."""

    def __init__(self, limit: int = 1000, rejects: tuple[str, ...] = ()) -> None:
        self.exact = True
        self.limit = limit
        self.rejects = rejects

    def lengths(self, items: Sequence[Item], cut: bool = True, /) -> list[Length | CotbalError]:
        return [self.length(record, self.limit if cut else 1000) for record, _ in items]

    def length(self, record: Record, limit: int) -> Length | CotbalError:
        shown = 10 * len(record.images)
        if shown > limit:
            return DataError(f"its images exceed {limit} tokens", "images-too-long")
        words = sum(len(answer.split()) for answer in record.learnt)
        return Length(words, max(0, min(words, limit - shown)), shown + words)

    def rejected(self, names: Sequence[str], /) -> dict[str, str]:
        return {name: "too narrow" for name in names if name in self.rejects}


class Lab:
    """A sound mixture of one task that a test damages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings: dict[str, Any] = {
            "name": "lab",
            "images": "images",
            "portions": {"mini": "99/100"},
        }
        self.task: dict[str, Any] = {"metric": "exact_match"}
        self.tasks = {"vqa": self.task}
        for split in ("train", "validation", "test"):
            image(root / "images" / f"{split}.png", COLOURS[split])
            self.write(split, rows(split))

    def write(self, split: str, content: list[Any], name: str | None = None) -> Path:
        self.task[split] = name or f"{split}.jsonl"
        return write(self.root / self.task[split], content)

    def recipe(self) -> Recipe:
        path = self.root / "recipe.yaml"
        path.write_text(yaml.safe_dump({**self.settings, "tasks": self.tasks}))
        return load_recipe(path)

    def check(self, meter: Words | None = None, **options: Any) -> CheckReport:
        if meter is not None:
            self.settings["model"] = {"checkpoint": "base", "max_length": meter.limit}
        return check_mixture(self.recipe(), self.root / "cache", meter=meter, **options)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_sizes_of_a_sound_mixture(lab: Lab) -> None:
    train = [
        *rows("train", 1100),
        llava("t", conversations=talk("<image>\nA?", "four", "B?", "five"), image="x.png"),
    ]
    lab.write("train", train)
    image(lab.root / "images" / "x.png", "white")
    report = lab.check(meter=Words())
    assert report.problems == ()
    assert report.warnings == ()
    assert [size.split for size in report.tasks] == ["train", "validation", "test"]
    size = report.tasks[0]
    assert (size.task, size.file) == ("vqa", str(lab.root / "train.jsonl"))
    assert (size.records, size.turns, size.images, size.usable, size.mini) == (
        1101,
        1102,
        2,
        2,
        1089,
    )
    assert size.answer_characters == 1100 * len("a frog") + 8
    assert (size.valid_tokens, size.trained_tokens) == (2202, 2202)
    assert report.tasks[1].mini is None
    assert (report.tasks[1].valid_tokens, report.tasks[1].trained_tokens) == (6, None)
    assert lab.check().tasks[0].valid_tokens is None


def test_a_task_without_training_data_is_checked_and_named(lab: Lab) -> None:
    lab.write("train", rows("train", 1100))
    known = [{**row, "task": "known"} for row in rows("validation")]
    file = write(lab.root / "known.jsonl", known)
    lab.tasks["known"] = {"metric": "exact_match", "validation": file.name}
    report = lab.check(meter=Words())
    assert report.problems == ()
    (named, *_) = report.warnings
    assert "task known" in named
    (size,) = (size for size in report.tasks if size.task == "known")
    assert (size.split, size.records, size.mini, size.trained_tokens) == (
        "validation",
        3,
        None,
        None,
    )
    lab.tasks["known"] = {"metric": "exact_match", "test": file.name}
    (_, unguarded, *_) = lab.check().warnings
    assert ("known" in unguarded, "guard" in unguarded) == (True, True)
    known[1]["conversations"][1]["value"] = ""
    write(file, known)
    (problem,) = lab.check().problems
    assert (problem.file, problem.number, problem.code) == (file, 2, "empty-text")


def test_every_problem_is_listed_at_once(lab: Lab) -> None:
    broken = image(lab.root / "images" / "broken.png")
    broken.write_bytes(broken.read_bytes()[:60])
    train = rows("train", 8)
    train[1]["conversations"][1]["value"] = ""
    train[2]["image"] = "gone.png"
    train[3]["image"] = "broken.png"
    train[4]["conversations"][0]["from"] = "robot"
    train[5]["task"] = "ocr"
    train[7]["id"] = "train0"
    path = lab.write("train", train)
    path.write_text(path.read_text() + "{broken\n")
    lab.write(
        "validation", [llava(conversations=talk("<image>", "b", "c", "d"), image="validation.png")]
    )
    lab.task["test"] = "nowhere.jsonl"
    lab.task["test_metrics"] = ["exact_match", "bleurt"]
    report = lab.check()
    with pytest.raises(CotbalError) as unknown:
        load_metric("bleurt")
    expected = [
        ("recipe.yaml", 0, unknown.value.code, "bleurt"),
        ("train.jsonl", 2, "empty-text", "conversations[1]"),
        ("train.jsonl", 3, "missing-image", "gone.png"),
        ("train.jsonl", 4, "broken-image", "broken.png"),
        ("train.jsonl", 5, "invalid-turn", "'robot'"),
        ("train.jsonl", 6, "wrong-task", "'ocr'"),
        ("train.jsonl", 8, "repeated-id", "'train0'"),
        ("train.jsonl", 9, "broken-file", "JSON"),
        ("validation.jsonl", 1, "several-questions", "2 of each"),
        ("nowhere.jsonl", 0, "missing-file", "no such file"),
    ]
    for problem, (*where, code, named) in zip(report.problems, expected, strict=True):
        assert [problem.file.name, problem.number] == where
        assert problem.code == code
        assert named in problem.message
    size = report.tasks[0]
    assert (size.records, size.images, size.usable, size.missing, size.broken) == (6, 3, 1, 1, 1)


def test_references_that_a_metric_cannot_score_are_problems(lab: Lab) -> None:
    """Of the splits that it scores: the test split has a metric of its own."""
    lab.task |= {"metric": "multiple_choice", "test_metrics": ["exact_match", "vqa_soft"]}
    answers = [["A"], ["frog", "B"], ["frog"], ["(C) toad"]]
    lab.write(
        "validation",
        [llava(f"v{i}", answer=a, image="validation.png") for i, a in enumerate(answers)],
    )
    lab.write(
        "test", [llava("t0", answer=["frog"] * 10, image="test.png"), llava("t1", image="test.png")]
    )
    problems = lab.check().problems
    assert [(p.file.name, p.number, p.code, p.message.partition(":")[0]) for p in problems] == [
        ("validation.jsonl", 3, "invalid-reference", "multiple_choice"),
        ("test.jsonl", 2, "invalid-reference", "vqa_soft"),
        ("validation.jsonl", 2, "unreachable-reference", "multiple_choice"),
    ]


def test_problems_are_found_again_the_second_time(lab: Lab) -> None:
    lab.write("train", rows("train", 2) + rows("train", 1))
    assert lab.check().problems == lab.check().problems != ()


def test_without_decoding_only_missing_images_are_problems(lab: Lab) -> None:
    (lab.root / "images" / "train.png").write_text("no image")
    (lab.root / "images" / "test.png").unlink()
    assert {problem.code for problem in lab.check(decode=False).problems} == {"missing-image"}
    assert {problem.code for problem in lab.check().problems} == {"broken-image", "missing-image"}


def test_images_outside_the_root_are_problems(lab: Lab) -> None:
    """By `..`, an absolute name, a link to a file, or a link to a folder."""
    inside = lab.root / "images"
    secret = image(lab.root / "private" / "secret.png", "white")
    (inside / "link.png").symlink_to(secret)
    (inside / "folder").symlink_to(secret.parent, target_is_directory=True)
    (inside / "near.png").symlink_to(inside / "train.png")
    image(lab.root / "images-of-others" / "a.png", "black")
    outside = ["../private/secret.png", str(secret), "link.png", "folder/secret.png"]
    outside += ["../images-of-others/a.png", "../images/../private/secret.png"]
    fine = ["../images/train.png", str(inside / "train.png"), "near.png"]
    lab.write("train", [llava(str(i), image=name) for i, name in enumerate([*outside, *fine])])
    report = lab.check()
    assert [(problem.number, problem.code) for problem in report.problems] == [
        (number, "outside-image") for number in range(1, 7)
    ]
    assert (report.tasks[0].usable, report.tasks[0].missing) == (3, 6)
    with raises(DataError, "outside-image", secret, "outside_images"):
        open_inputs(lab.recipe())
    lab.settings["outside_images"] = "allow"
    assert not lab.check().problems


def test_dropped_records_are_counted_and_named(lab: Lab) -> None:
    lab.settings["on_missing_image"] = "drop"
    lab.write(
        "train", [*rows("train", 1200), llava("x", image="gone.png"), llava("y", image="gone.png")]
    )
    report = lab.check()
    assert report.problems == ()
    gone = f"missing image {lab.root / 'images' / 'gone.png'}"
    assert list(report.warnings) == [
        f"dropped: {lab.root / 'train.jsonl'}, record {i}: {gone}" for i in (1201, 1202)
    ]
    assert (report.tasks[0].records, report.tasks[0].dropped, report.tasks[0].mini) == (
        1202,
        2,
        1188,
    )


def test_leaks_between_splits(lab: Lab) -> None:
    lab.write("train", rows("train", 1100))
    leaked = rows("validation")
    leaked[1] = {**rows("train")[0], "id": "other"}
    lab.write("validation", leaked)
    tested = rows("test")
    tested[2]["id"] = "train7"
    lab.write("test", tested)
    first, second = lab.check().warnings
    source = f"(as {lab.root / 'train.jsonl'}, record "
    where = f"{lab.root / 'validation.jsonl'}, record 2"
    assert names_all(first, "task vqa", "1 of 3", "validation", "question", where, f"{source}1)")
    where = f"{lab.root / 'test.jsonl'}, record 3"
    assert names_all(second, "task vqa", "1 of 3", "test", "id", "train", where, f"{source}8)")


def test_a_later_turn_leaks_too(lab: Lab) -> None:
    lab.write(
        "train",
        [llava("m", conversations=talk("<image>\nA?", "a", "What?", "b"), image="same.png")] * 1,
    )
    lab.write("validation", [llava("v", "<image>\nWhat?", image="same.png")])
    image(lab.root / "images" / "same.png")
    where = f"{lab.root / 'validation.jsonl'}, record 1"
    assert any(names_all(warning, "question", where) for warning in lab.check().warnings)


def test_made_up_ids_are_no_leak(lab: Lab) -> None:
    for split in ("train", "validation"):
        without = [
            {key: value for key, value in row.items() if key != "id"} for row in rows(split, 1100)
        ]
        lab.write(split, without, f"{split}/vqa.jsonl")
    assert lab.check().warnings == ()


def test_a_small_mini_portion_is_warned_of(lab: Lab) -> None:
    lab.settings["portions"] = {"mini": "1/32"}
    lab.write("train", rows("train", 3100))
    (warning,) = lab.check().warnings
    assert names_all(warning, "96 records (1/32 of 3,100)", "1,000", "portions.mini", "1/3")


def test_a_task_too_small_for_the_advised_mini_is_not_advised_to_make_all_of_it_the_mini(
    lab: Lab,
) -> None:
    lab.write("train", rows("train", 97))
    (warning,) = lab.check().warnings
    assert "96 records (99/100 of 97)" in warning
    assert "portions.mini" not in warning


def test_of_a_file_that_is_not_there_only_that_is_said(lab: Lab) -> None:
    (lab.root / "train.jsonl").unlink()
    report = lab.check()
    assert len(report.problems) == 1
    assert report.warnings == ()


def test_an_unbalanced_task_needs_no_mini_but_is_not_measured(lab: Lab) -> None:
    lab.tasks["other"] = dict(lab.task)  # a recipe needs a balanced task
    lab.task.update(balanced=False)
    del lab.task["validation"]
    for name in ("train", "validation", "test"):
        untitled = [
            {key: value for key, value in row.items() if key != "task"} for row in rows(name, 1100)
        ]
        write(lab.root / f"{name}.jsonl", untitled)
    (warning,) = lab.check().warnings
    assert names_all(warning, "task vqa", "validation")


def test_progress_reaches_its_end(lab: Lab) -> None:
    calls: list[tuple[str, int, int]] = []
    lab.check(progress=lambda *news: calls.append(news))
    assert ("vqa train: records", 3, 3) in calls
    assert ("vqa test: images", 1, 1) in calls


def test_json(lab: Lab) -> None:
    (lab.root / "images" / "test.png").unlink()
    plain = json.loads(json.dumps(lab.check().to_json()))
    assert plain["errors"][0]["file"] == str(lab.root / "test.jsonl")
    assert plain["errors"][0]["number"] == 1
    assert plain["errors"][0]["code"] == "missing-image"
    assert plain["tasks"][0]["records"] == 3


def test_what_check_passes_can_be_opened_and_the_rest_cannot(lab: Lab) -> None:
    """The two must judge alike, or a checked recipe would fail after hours."""
    cache = lab.root / "cache"
    assert lab.check().problems == ()
    assert isinstance(
        open_records(lab.root / "validation.jsonl", cache, evaluation=True)[0], Record
    )
    lab.write("validation", [llava(answer="")])
    assert lab.check().problems
    with pytest.raises(DataError):
        open_records(lab.root / "validation.jsonl", cache, evaluation=True)


def test_an_image_in_training_and_in_the_evaluation_of_another_task_is_found(lab: Lab) -> None:
    """Under another spelling, as a link, and as a copy; the question is another one."""
    images = lab.root / "images"
    image(images / "ocr.png", "yellow")
    (images / "link.png").symlink_to(images / "train.png")
    (images / "sub").mkdir()
    (images / "sub" / "copy.png").write_bytes((images / "train.png").read_bytes())
    names = ("./train.png", "link.png", "sub/../sub/copy.png", "ocr.png")
    asked = [llava(f"v{i}", f"<image>\nRead {i}.", image=name) for i, name in enumerate(names)]
    write(lab.root / "ocr_validation.jsonl", asked)
    write(lab.root / "ocr_train.jsonl", [llava("t0", "<image>\nRead.", image="x.png")])
    image(images / "x.png", "white")
    lab.tasks["ocr"] = {"train": "ocr_train.jsonl", "validation": "ocr_validation.jsonl"}
    (leak,) = [warning for warning in lab.check().warnings if "mini" not in warning]
    where = f"{lab.root / 'ocr_validation.jsonl'}, record 1 (as {lab.root / 'train.jsonl'}, "
    assert names_all(leak, "task ocr", "3 of 4", "validation", "(task vqa: 3)", where, "record 1)")


def test_a_record_in_the_training_file_of_another_task_is_found(lab: Lab) -> None:
    write(lab.root / "ocr_validation.jsonl", [{**rows("train")[1], "task": "ocr", "id": "v"}])
    write(lab.root / "ocr_train.jsonl", [llava("t0", "<image>\nRead.", image="x.png")])
    image(lab.root / "images" / "x.png", "white")
    lab.tasks["ocr"] = {"train": "ocr_train.jsonl", "validation": "ocr_validation.jsonl"}
    (leak,) = [warning for warning in lab.check().warnings if "mini" not in warning]
    where = f"(as {lab.root / 'train.jsonl'}, record 2)"
    assert names_all(leak, "task ocr", "1 of 1", "validation", "question", "(task vqa: 1)", where)


def test_what_max_length_cuts_off_is_a_warning_of_the_task(lab: Lab) -> None:
    answers = ["a frog", "a frog on a big leaf", "a toad"]
    train = [llava(f"t{i}", answer=a, image="train.png") for i, a in enumerate(answers)]
    lab.write("train", train)
    report = lab.check(meter=Words(limit=12))
    assert report.problems == ()
    assert (report.tasks[0].valid_tokens, report.tasks[0].trained_tokens) == (10, 6)
    (warning,) = [warning for warning in report.warnings if "max_length" in warning]
    where = f"{lab.root / 'train.jsonl'}, record 2"
    numbers = ("model.max_length = 12", "4 of 10", "40.0", "1 of 3 records")
    assert names_all(warning, "task vqa", *numbers, where, "16 tokens")


def test_a_task_whose_every_answer_is_cut_off_is_a_problem(lab: Lab) -> None:
    (problem,) = lab.check(meter=Words(limit=10)).problems
    assert (problem.file, problem.number) == (lab.root / "train.jsonl", 0)
    assert problem.code == "nothing-trained"
    assert names_all(problem.message, "task vqa", "model.max_length", 10)


def test_images_that_do_not_fit_are_problems_of_their_records(lab: Lab) -> None:
    """Of training records alone: prompts are never cut."""
    problems = lab.check(meter=Words(limit=9)).problems
    assert [(problem.file.name, problem.number, problem.code) for problem in problems] == [
        ("train.jsonl", number, "images-too-long") for number in (1, 2, 3)
    ]


def test_an_image_that_the_processor_rejects_is_a_problem_or_dropped(lab: Lab) -> None:
    lab.write("train", [*rows("train", 2), llava("x", image="narrow.png")])
    path = image(lab.root / "images" / "narrow.png", size=(2000, 8))
    report = lab.check(meter=Words(rejects=("narrow.png",)))
    (problem,) = report.problems
    assert (problem.file, problem.number) == (lab.root / "train.jsonl", 3)
    assert names_all(problem.message, path, "too narrow")
    assert (report.tasks[0].usable, report.tasks[0].rejected) == (1, 1)
    lab.settings["on_missing_image"] = "drop"
    report = lab.check(meter=Words(rejects=("narrow.png",)))
    assert report.problems == ()
    assert report.tasks[0].dropped == 1


def test_a_processor_that_cannot_be_loaded_is_one_problem(lab: Lab) -> None:
    class Broken(Words):
        def rejected(self, names: Sequence[str], /) -> dict[str, str]:
            raise CotbalError("checkpoint base: no `patch_size`", "broken-checkpoint")

    (problem,) = lab.check(meter=Broken()).problems
    assert problem.code == "broken-checkpoint"
    assert str(problem) == f"{lab.root / 'recipe.yaml'}: model: checkpoint base: no `patch_size`"


def test_what_is_wrong_for_the_probes_alone_is_added(lab: Lab) -> None:
    lab.write(
        "train", [llava("t", answer="a frog on a big leaf", image="gone.png"), *rows("train")]
    )
    whole, cut = lab.check(meter=Words()), lab.check(meter=Words(limit=10))
    both = whole.and_of_probes(cut)
    assert [problem.code for problem in both.problems] == ["missing-image", "nothing-trained"]
    first, second = both.problems
    assert first == whole.problems[0]
    assert second.message.endswith(cut.problems[-1].message)
    assert names_all(second.message.removesuffix(cut.problems[-1].message), "probes")
    assert both.tasks == whole.tasks
    assert len(both.warnings) == len(whole.warnings)


def test_keys_that_nothing_reads_are_a_warning_once_per_key_and_task(lab: Lab) -> None:
    lab.settings["portions"] = {"mini": "1/2"}
    train = rows("train", 3)
    train[1]["hint"] = train[2]["hint"] = "Count."
    train[2]["conversations"][1]["reasoning"] = "Hm."
    path = lab.write("train", train)
    validation = rows("validation")
    validation[0] |= {"hint": "Look.", "source": "web", "boxes": [1]}
    lab.write("validation", validation)
    report = lab.check()
    assert report.problems == ()
    unread = [warning for warning in report.warnings if "key `" in warning]
    hint, reasoning, boxes = unread
    assert names_all(hint, "task vqa", "`hint`", 3, f"{path}, record 2")
    assert names_all(reasoning, "task vqa", "`conversations[].reasoning`", 1, f"{path}, record 3")
    where = f"{lab.root / 'validation.jsonl'}, record 1"
    assert names_all(boxes, "task vqa", "`boxes`", 1, where)
    assert [warning for warning in lab.check().warnings if "key `" in warning] == unread


def test_a_metric_that_is_given_details_reads_them(lab: Lab) -> None:
    validation = rows("validation")
    validation[0] |= {"hint": "Look.", "boxes": [1]}
    validation[0]["conversations"][1]["value"] = "yes"
    lab.write("validation", validation)
    lab.task["metric"] = "mme"
    unread = [warning for warning in lab.check().warnings if "key `" in warning]
    assert ["`boxes`" in warning for warning in unread] == [True]


def test_options_are_read_by_a_task_that_chooses(lab: Lab) -> None:
    for split in ("train", "validation"):
        lab.write(split, [{**row, "options": ["a", "b"]} for row in rows(split)])
    unread = [warning for warning in lab.check().warnings if "key `" in warning]
    assert ["`options`" in warning for warning in unread] == [True]
    lab.task["choose"] = "sum"
    assert not [warning for warning in lab.check().warnings if "key `" in warning]


def test_answers_without_loss_are_not_counted(lab: Lab) -> None:
    train = rows("train", 2)
    train[0]["conversations"][1]["weight"] = 0
    lab.write("train", train)
    counted = lab.check(meter=Words()).tasks[0]
    assert (counted.turns, counted.valid_tokens) == (2, 2)


def test_records_that_would_change_meaning_are_named_with_file_and_record(lab: Lab) -> None:
    train = rows("train", 7)
    train[0]["images"] = ["validation.png"]
    train[1]["videos"] = ["a.mp4"]
    train[2]["conversations"][0]["value"] = "<image>\n<audio>\nWhat?"
    train[3]["messages"] = [{"role": "user", "content": "What?"}]
    train[4]["conversations"][1]["loss_scale"] = 0.5
    train[5]["system"] = ["Be brief."]
    train[6]["image"] = "iVBORw0KGgo/" * 4500
    path = lab.write("train", train)
    problems = lab.check().problems
    assert [(problem.file, problem.number) for problem in problems] == [
        (path, i) for i in range(1, 8)
    ]
    named = ["`images`", "videos", "<audio>", "both", "loss_scale", "system", "base64"]
    assert all(key in problem.message for key, problem in zip(named, problems, strict=True))
    assert all(len(str(problem)) < 400 for problem in problems)
    with raises(DataError, "invalid-records", path, "7 errors"):
        open_records(path, lab.root / "cache")
