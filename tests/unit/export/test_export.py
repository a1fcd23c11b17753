"""The export as a whole: one order of rows, scaled numbers, nothing lost, clear errors."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cotbal.errors import CotbalError
from cotbal.export._settings import NO_MODEL
from helpers.errors import names_all, raises
from helpers.export_cases import SIZES, WEIGHTS, configuration, exported, rows_of, write_recipe


def test_the_order_follows_from_the_seed(recipe: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        exported("ms-swift", recipe, tmp_path / name, f"optimization.seed={seed}")
    one, again, other = (rows_of(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again != other
    assert sorted(map(json.dumps, one)) == sorted(map(json.dumps, other))
    assert len({row["channel"] for row in one[:8]}) > 1, "tasks are mixed"


def test_more_weight_shows_the_same_rows_and_more(tmp_path: Path) -> None:
    """The part of a time is the head of the nested order, and no task vanishes."""
    recipe = write_recipe(tmp_path / "mixture")
    talk = recipe.parent / "talk.jsonl"
    lines = [json.loads(line) for line in talk.read_text().splitlines()]
    for i, line in enumerate(lines):
        line["conversations"][-1]["value"] = f"answer {i}"
    talk.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = {}
    for weight in (0.001, 0.5, 1.0):
        (recipe.parent / "weights.json").write_text(
            json.dumps({"short": 2 - weight, "talk": weight})
        )
        exported("llamafactory", recipe, tmp_path / str(weight))
        texts = [row["messages"][-1]["content"] for row in rows_of(tmp_path / str(weight))]
        shown[weight] = {text for text in texts if text.startswith("answer")}
    assert len(shown[0.001]) == 1
    assert shown[0.001] < shown[0.5] < shown[1.0] == {f"answer {i}" for i in range(SIZES["talk"])}


@pytest.mark.parametrize("trainer", ["ms-swift", "llamafactory"])
def test_rows_are_shown_as_the_recipe_samples_them(
    recipe: Path, tmp_path: Path, trainer: str
) -> None:
    """Once by the sampling, which the weight multiplies where a trainer has no weights."""
    sampling = {"short": 0.5, "talk": 2.0}
    guide = exported(trainer, recipe, tmp_path / "out", f"optimization.sampling={sampling}")
    wanted = {**sampling, "extra": 1.0}
    if trainer == "llamafactory":
        wanted |= {task: weight * sampling[task] for task, weight in WEIGHTS.items()}
    total = sum(wanted[task] * SIZES[task] for task in SIZES)
    factor = sum(SIZES.values()) / total
    rows = Counter(_kind(row["messages"]) for row in rows_of(tmp_path / "out"))
    assert rows == {task: round(wanted[task] * factor * SIZES[task]) for task in SIZES}
    if trainer == "ms-swift":
        assert "optimization.sampling" in guide.text
        unsampled = exported(trainer, recipe, tmp_path / "plain").text
        assert "optimization.sampling" not in unsampled
        scales = [row["messages"][-1]["loss_scale"] for row in rows_of(tmp_path / "out")]
        assert min(scales) < 1 < max(scales)


def _kind(messages: list[dict[str, Any]]) -> str:
    """The task of a conversation, by its first words."""
    first = messages[0]["content"]
    return {"Be": "talk", "Say": "extra"}.get(first.split()[0], "short")


def test_without_a_tokenizer_lengths_are_characters(recipe: Path, tmp_path: Path) -> None:
    guide = exported("ms-swift", recipe, tmp_path / "out", "model.checkpoint=llava-1.5-7b")
    assert names_all(guide.text, "characters")
    assert configuration(tmp_path / "out")["model"] == "llava-1.5-7b"
    scales = {
        row["channel"]: row["messages"][-1]["loss_scale"] for row in rows_of(tmp_path / "out")
    }
    letters = {"short": 3 * 10, "talk": (9 + 26) * 6, "extra": 10 * 4}
    assert sum(scales[t] * letters[t] for t in letters) == pytest.approx(sum(letters.values()))


@pytest.mark.parametrize("trainer", ["ms-swift", "llamafactory", "axolotl", "trl"])
def test_a_recipe_without_a_model_can_be_exported(
    recipe: Path, tmp_path: Path, trainer: str
) -> None:
    guide = exported(trainer, recipe, tmp_path / "out", "model=null")
    assert NO_MODEL in guide.text
    assert any(NO_MODEL in path.read_text() for path in (tmp_path / "out").glob("train.[yp]*"))


def test_the_guide_is_written_beside_the_rows(recipe: Path, tmp_path: Path) -> None:
    guide = exported("ratios", recipe, tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out" / "HOW_TO_RUN.md").read_text() == guide.text
    assert "| short | 10 | 1.6000 |" in guide.text


def test_nothing_is_overwritten(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with raises(CotbalError, "existing-output", "--out", tmp_path / "out"):
        exported("ratios", recipe, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    exported("ratios", recipe, tmp_path / "empty")
    assert (tmp_path / "empty" / "ratios.csv").is_file()


def test_the_current_directory_is_not_a_new_one(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export replaces an empty directory, and the shell would stay in the removed one."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with raises(CotbalError, "existing-output", "--out"):
        exported("ratios", recipe, Path("."))
    exported("ratios", recipe, Path("../empty/new"))
    assert (tmp_path / "empty" / "new" / "ratios.csv").exists()


def test_a_failed_export_leaves_nothing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_trainers").mkdir()
    code = "def write(order, out):\n    (out / 'half').touch()\n    raise OSError('disk is full')\n"
    (tmp_path / "my_trainers" / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OSError, match="disk is full"):
        exported("my_trainers.broken", recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.part").exists()


def test_invalid_orders(recipe: Path, tmp_path: Path) -> None:
    names = "axolotl, llamafactory, ms_swift, olmix, ratios, trl"
    with raises(CotbalError, "unknown-name", names, "deepspeed"):
        exported("deepspeed", recipe, tmp_path / "out")
    (recipe.parent / "weights.json").write_text('{"weights": {"short": 1.0}}')
    with raises(CotbalError, "missing-weights", "talk"):
        exported("ratios", recipe, tmp_path / "out")
    (recipe.parent / "weights.json").unlink()
    with raises(CotbalError, "missing-weights", "weights.json", "cotbal balance", "--weights"):
        exported("ratios", recipe, tmp_path / "out")
    with raises(CotbalError, "unsupported-option", "--weights", "olmix"):
        exported("olmix", recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
