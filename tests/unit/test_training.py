"""A training that is interrupted ends with exactly the weights of one that is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from cotbal.data.batches.collate import Collator
from cotbal.data.batches.grouping import StepLayout
from cotbal.data.batches.order import Mixed
from cotbal.data.batches.packing import packed
from cotbal.data.files import default_cache, read_jsonl
from cotbal.data.reading.records import open_records
from cotbal.errors import CotbalError, DataError, RunError
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import final_run
from cotbal.training import train as training
from cotbal.training import vlm
from cotbal.training.features.images import ImageFeatures
from cotbal.training.partial_checkpoints import mark_complete
from cotbal.training.ranks import Stopped
from cotbal.training.run_paths import RunPaths
from cotbal.training.trainers import compiled
from cotbal.training.trainers.arguments import arguments, layout_to_group
from helpers.errors import names_all, raises
from helpers.tiny_vlm import BASE, mixture

STEPS = 6  # of 48 records in batches of 8; a partial checkpoint is written every 2


Whole = Callable[..., tuple[Path, training.Trained]]


class Interrupted(Exception):
    """What a kill is to this process."""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture") / "a", {"color": 1, "paint": 2})


def train(
    recipe: Recipe, weighting: str, directory: Path, stop_after: int | None = None, **hooks: Any
) -> training.Trained:
    """One final training, or the part of it up to a step."""

    def report(done: int, total: int, loss: float | None) -> None:
        assert total == STEPS
        if done == stop_after:
            raise Interrupted

    parts = []
    for task in recipe.mixture.tasks:
        records = open_records(task.train, default_cache())
        parts.append((task.name, records, np.arange(len(records)), task.instruction))
    weights = {"color": 0.5, "paint": 1.5} if weighting == "cotbal" else None
    run = final_run(recipe.mixture, weighting)
    session = training.Session(**{"report": report, **hooks})
    return training.train(recipe, run, Mixed(parts), weights, RunPaths(directory), session)


@pytest.fixture(scope="module")
def whole(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Uninterrupted trainings, each once; not to be changed."""

    @cache
    def trained(weighting: str, settings: tuple[str, ...] = ()) -> tuple[Path, training.Trained]:
        directory = tmp_path_factory.mktemp("whole")
        return directory, train(load_recipe(recipe_file, settings), weighting, directory)

    return trained


@pytest.fixture(scope="module")
def cut_after_five(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interrupted training with equal weights; to be copied."""
    directory = tmp_path_factory.mktemp("cut") / "cut"
    with pytest.raises(Interrupted):
        train(load_recipe(recipe_file), "ew", directory, stop_after=5)
    return directory


LORA = (
    "model={checkpoint: base, dtype: float32, max_length: 120, language: lora, projector: full}",
)
# The base of pocket: bitsandbytes wants layers of some width.
QLORA = (
    (
        f"model={{checkpoint: {BASE}, dtype: bfloat16, max_length: 120, language: lora,"
        " quantization: nf4}"
    ),
)
WINDOW = ("weightings.dwa={window: 1, temperature: 0.5}",)
UNCERTAINTY = ("weightings={torchjd:UW: {lr: 0.5}}",)
PACKING = ("optimization.packing=true",)
CASES = [
    pytest.param("cotbal", (), id="full"),
    pytest.param("cotbal", LORA, id="LoRA"),
    pytest.param("dwa", WINDOW, id="DWA"),
    pytest.param("rlw", (), id="RLW", marks=pytest.mark.extended),
    pytest.param("torchjd:UW", UNCERTAINTY, id="TorchJD", marks=pytest.mark.extended),
    pytest.param("cotbal", PACKING, id="packed", marks=pytest.mark.extended),
    pytest.param("cotbal", QLORA, id="QLoRA", marks=pytest.mark.extended),
]


@pytest.mark.parametrize(("weighting", "settings"), CASES)
def test_resuming_in_the_middle_changes_nothing(
    recipe_file: Path, tmp_path: Path, whole: Whole, weighting: str, settings: tuple[str, ...]
) -> None:
    recipe = load_recipe(recipe_file, settings)
    directory, uncut = whole(weighting, settings)
    with pytest.raises(Interrupted):
        train(recipe, weighting, tmp_path / "cut", stop_after=5)
    resumed = train(recipe, weighting, tmp_path / "cut")
    assert (resumed.steps, resumed.tokens) == (uncut.steps, uncut.tokens) == (STEPS, uncut.tokens)
    folders = (directory, tmp_path / "cut")
    first, second = (load_file(folder / "checkpoint" / "model.safetensors") for folder in folders)
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert torch.equal(values, second[name]), name
    logs = [read_jsonl(RunPaths(folder).training) for folder in folders]
    for one, other in zip(*logs, strict=True):
        for key in ("step", "task_losses", "weights", "mean_weight", "masked_rows"):
            assert one[key] == other[key], key


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), id="full"),
        pytest.param(LORA, id="LoRA", marks=pytest.mark.extended),
        pytest.param(PACKING, id="packed", marks=pytest.mark.extended),
    ],
)
def test_images_encoded_once_change_no_weight(
    recipe_file: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    """Four images, encoded by the first training, and read from its files by the second."""
    recipe = load_recipe(recipe_file, settings)
    lines: list[str] = []
    train(recipe, "cotbal", tmp_path / "plain")
    for name in ("first", "second"):
        features = ImageFeatures(2**30, cache=tmp_path, report=lines.append)
        train(recipe, "cotbal", tmp_path / name, features=features)
        features.save()
    first, second = lines
    assert names_all(first, ": 4 images")
    assert names_all(second, ": 0 images")
    plain, *others = (
        (tmp_path / name / "checkpoint" / "model.safetensors").read_bytes()
        for name in ("plain", "first", "second")
    )
    assert others == [plain, plain]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of dynamo
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), id="full"),
        pytest.param(LORA, id="LoRA"),
        pytest.param(PACKING, id="packed"),
    ],
)
@pytest.mark.extended
@pytest.mark.needs("compiler")
def test_a_compiled_language_model_trains_to_the_same_weights(
    recipe_file: Path,
    tmp_path: Path,
    whole: Whole,
    monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...],
) -> None:
    """Its graph is traced and run without a compiler, so that the test is quick."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    torch._dynamo.utils.counters.clear()
    recipe = load_recipe(recipe_file, (*settings, "model.compile=true"))
    train(recipe, "cotbal", tmp_path)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    plain, other = (
        load_file(directory / "checkpoint" / "model.safetensors")
        for directory in (whole("cotbal", settings)[0], tmp_path)
    )
    assert plain.keys() == other.keys()
    for name, values in plain.items():
        assert torch.allclose(values, other[name], atol=1e-4), name


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("damage", "names", "rest"),
    [
        (cut_in_half, ["optimizer.pt"], 1),
        (zeroed, ["trained.safetensors"], 1),
        (cut_in_half, ["complete"], 1),
        (Path.unlink, ["rng_state.pth", "trainer_state.json"], 0),
    ],
)
def test_a_damaged_partial_checkpoint_is_archived(
    recipe_file: Path,
    tmp_path: Path,
    whole: Whole,
    cut_after_five: Path,
    damage: Callable[[Path], None],
    names: list[str],
    rest: int,
) -> None:
    """The one before it is used; without any, the training starts over."""
    recipe = load_recipe(recipe_file)
    shutil.copytree(cut_after_five, tmp_path / "cut")
    partial = tmp_path / "cut" / "partial"
    checkpoints = [partial / "checkpoint-2", partial / "checkpoint-4"]
    for checkpoint, name in zip(checkpoints[rest:], names, strict=True):
        damage(checkpoint / name)
    begun: list[int] = []
    train(recipe, "ew", tmp_path / "cut", report=lambda done, *_: begun.append(done))
    assert begun[0] == (3 if rest else 1)
    assert len(list(partial.glob("damaged-*"))) == len(names)
    same_model(whole("ew")[0], tmp_path / "cut")


def spoil_first_line(log: Path) -> None:
    log.write_bytes(log.read_bytes().replace(b"{", b"#", 1))


def count_more_tokens(log: Path) -> None:
    log.write_text(log.read_text().replace('"color": 1', '"color": 2'))


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("damage", [spoil_first_line, count_more_tokens, Path.unlink])
def test_a_damaged_log_changes_no_count_of_a_resumed_training(
    recipe_file: Path,
    tmp_path: Path,
    whole: Whole,
    cut_after_five: Path,
    damage: Callable[[Path], None],
    step: int,
) -> None:
    """Before it resumes, or while it trains."""
    shutil.copytree(cut_after_five, tmp_path / "cut")
    log = RunPaths(tmp_path / "cut").training

    def report(done: int, *_: object) -> None:
        if done == step:
            damage(log)

    if not step:
        damage(log)
    directory, uncut = whole("ew")
    resumed = train(load_recipe(recipe_file), "ew", tmp_path / "cut", report=report)
    assert (resumed.steps, resumed.tokens) == (STEPS, uncut.tokens)
    logs = [read_jsonl(RunPaths(folder).training) for folder in (directory, tmp_path / "cut")]
    for one, other in zip(*logs, strict=True):
        for key in ("step", "task_losses", "task_tokens"):
            assert one[key] == other[key], key


@pytest.mark.parametrize(("saved", "resumed"), [("this", 5), ("other", 1), (None, 1)])
def test_a_partial_checkpoint_of_another_training_is_archived(
    recipe_file: Path, tmp_path: Path, cut_after_five: Path, saved: str | None, resumed: int
) -> None:
    """As a worker leaves them that outlived its run."""
    shutil.copytree(cut_after_five, tmp_path / "cut")
    partial = tmp_path / "cut" / "partial"
    for step in (2, 4):
        mark_complete(partial / f"checkpoint-{step}", saved)
    begun: list[int] = []

    def report(done: int, *_: object) -> None:
        begun.append(done)
        raise Interrupted

    with pytest.raises(Interrupted):
        train(load_recipe(recipe_file), "ew", tmp_path / "cut", report=report, identity="this")
    assert begun == [resumed]
    assert len(list(partial.glob("damaged-*"))) == (2 if resumed == 1 else 0)


def same_model(one: Path, other: Path) -> None:
    """To the last bit."""
    files = [directory / "checkpoint" / "model.safetensors" for directory in (one, other)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_stopped_training_saves_first(recipe_file: Path, tmp_path: Path, whole: Whole) -> None:
    """In the middle between two partial checkpoints; what is left to do ends with the weights of a
    whole training.
    """
    recipe = load_recipe(recipe_file, ("optimization.checkpoint_steps=4",))
    cut = tmp_path / "cut"
    seen = []
    with pytest.raises(Stopped):
        train(
            recipe,
            "cotbal",
            cut,
            report=lambda *step: seen.append(step),
            stop=lambda: len(seen) == 3,
        )
    assert [path.parent.name for path in cut.glob("partial/*/complete")] == ["checkpoint-3"]
    assert not (cut / "checkpoint").exists()
    train(
        recipe,
        "cotbal",
        cut,
        report=lambda *step: seen.append(step),
        stop=lambda: len(seen) == STEPS,
    )
    assert [step[0] for step in seen] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ], "at the last step there is nothing to stop any more"
    same_model(whole("cotbal")[0], cut)


def test_a_training_that_resumes_at_its_end_saves_the_same_files(
    recipe_file: Path, tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk was full when the model was saved. The second time the tokenizer pads no batch."""

    def full(*_: object) -> None:
        raise OSError("no room")

    recipe = load_recipe(recipe_file)
    with monkeypatch.context() as disk:
        disk.setattr(vlm, "save_merged", full)
        with pytest.raises(OSError, match="no room"):
            train(recipe, "cotbal", tmp_path)
    train(recipe, "cotbal", tmp_path)
    uncut = whole("cotbal")[0] / "checkpoint"
    for file in sorted(uncut.iterdir()):
        assert (tmp_path / "checkpoint" / file.name).read_bytes() == file.read_bytes(), file


def test_a_diverged_training_fails_with_its_step_and_leaves_no_model(
    recipe_file: Path, tmp_path: Path
) -> None:
    hot = ("optimization.learning_rate=1.0e30", "optimization.warmup_ratio=0")
    recipe = load_recipe(recipe_file, hot)
    with raises(RunError, "diverged", "step 2", "color", "paint"):
        train(recipe, "cotbal", tmp_path)
    assert not (tmp_path / "checkpoint").exists()
    assert [line["step"] for line in read_jsonl(tmp_path / "training.jsonl")] == [1]


def test_parameters_that_are_not_finite_after_the_last_step_are_not_saved(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch.optim.AdamW.step

    def overflowing(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        result = step(optimizer, *args, **kwargs)
        parameter = optimizer.param_groups[0]["params"][0]
        if optimizer.state[parameter]["step"] == STEPS:
            parameter.data.mul_(torch.inf)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", overflowing)
    with raises(RunError, "diverged"):
        train(load_recipe(recipe_file), "ew", tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_processes_that_make_the_batches_change_nothing(
    recipe_file: Path, tmp_path: Path, whole: Whole
) -> None:
    """Neither in one go nor resumed in the middle."""
    beside = load_recipe(recipe_file, ("resources.dataloader_workers=2",))
    with pytest.raises(Interrupted):
        train(beside, "cotbal", tmp_path / "two", stop_after=3)
    train(beside, "cotbal", tmp_path / "two")
    same_model(whole("cotbal")[0], tmp_path / "two")


@pytest.mark.parametrize(
    ("ranks", "micro", "accumulation"), [(1, 4, 2), (2, 4, 1), (4, 2, 1), (8, 1, 1)]
)
def test_the_batch_is_the_same_on_any_number_of_ranks(
    recipe_file: Path, tmp_path: Path, ranks: int, micro: int, accumulation: int
) -> None:
    recipe = load_recipe(recipe_file)
    args = arguments(recipe, 48, tmp_path, 0, ranks)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (
        micro,
        accumulation,
    )
    # With gradient checkpointing too: test_ranks trains with it.
    assert args.ddp_find_unused_parameters


@pytest.mark.parametrize(
    ("settings", "ranks", "layout"),
    [
        ((), 1, StepLayout(4, 1, 2)),
        (("optimization.micro_batch_size=2",), 2, StepLayout(2, 2, 2)),
        (("optimization.micro_batch_size=1",), 2, StepLayout(1, 2, 4)),
        (("optimization.micro_batch_size=1",), 1, None),
        ((), 2, None),
        (("optimization.micro_batch_size=8",), 1, None),
        (("optimization.packing=true",), 1, None),
        (("optimization.normalizer=per_device",), 1, None),
        (("optimization.group_by_length=false",), 1, None),
    ],
)
def test_rows_are_grouped_where_that_saves_padding_and_changes_nothing(
    recipe_file: Path, settings: tuple[str, ...], ranks: int, layout: StepLayout | None
) -> None:
    optimization = load_recipe(recipe_file, settings).file.optimization
    assert layout_to_group(optimization, ranks) == layout


def test_grouping_by_length_changes_no_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saves padding, and a training may change it when it resumes."""
    file = mixture(tmp_path / "mixture", {"color": 1, "paint": 20})
    padding: list[int] = []
    made = Collator.training

    def seen(collator: Collator, rows: Any) -> Any:
        batch = made(collator, rows)
        padding.append(int((batch["attention_mask"] == 0).sum()))
        return batch

    monkeypatch.setattr(Collator, "training", seen)
    on, off = load_recipe(file), load_recipe(file, ("optimization.group_by_length=false",))
    spent = []
    for name, recipe in (("on", on), ("off", off)):
        padding.clear()
        train(recipe, "cotbal", tmp_path / name)
        spent.append(sum(padding))
    assert spent[0] < 0.6 * spent[1]
    with pytest.raises(Interrupted):
        train(off, "cotbal", tmp_path / "both", stop_after=3)
    train(on, "cotbal", tmp_path / "both")
    for name in ("on", "both"):
        checkpoints = (tmp_path / other / "checkpoint" for other in ("off", name))
        moved, apart = distances(Path(on.checkpoint), *checkpoints)
        assert moved > 0.1
        assert apart / moved < 1e-5


def test_a_batch_that_ranks_cannot_share_is_rejected(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file)
    with raises(CotbalError, "indivisible-batch", "batch_size", "3 ranks", 8):
        arguments(recipe, 48, tmp_path, 0, 3)


def test_the_training_moved_the_model(recipe_file: Path, whole: Whole) -> None:
    """So that the test above compares more than two copies of the base."""
    recipe = load_recipe(recipe_file)
    checkpoint = whole("ew")[0] / "checkpoint"
    before, after = (
        load_file(path / "model.safetensors") for path in (Path(recipe.checkpoint), checkpoint)
    )
    assert any(not torch.equal(before[name], after[name]) for name in before.keys() & after.keys())
    caches = [
        json.loads((path / "config.json").read_text()).get("use_cache", "absent")
        for path in (Path(recipe.checkpoint), checkpoint)
    ]
    assert caches[0] == caches[1], "the Trainer switches the cache off, users generate with it"


class Deaf(LlavaForConditionalGeneration):
    """Never hears where a packed row begins."""

    def forward(self, *args: Any, position_ids: torch.Tensor | None = None, **more: Any) -> Any:
        return super().forward(*args, **more)


def test_packing_changes_nothing(
    recipe_file: Path, tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, padded = whole("cotbal")
    shapes = []

    def seen(collator: Any, *args: Any) -> Any:
        def collate(rows: list[Any]) -> Any:
            shapes.append((len(rows), *batch_of(rows)["labels"].shape))
            return batch_of(rows)

        batch_of = packed(collator, *args)
        return collate

    monkeypatch.setattr(training, "packed", seen)
    recipe = load_recipe(recipe_file, PACKING)
    packed_rows = train(recipe, "cotbal", tmp_path)
    assert shapes
    assert all(rows == 4 and images <= 2 and length <= 120 for rows, images, length in shapes)
    assert padded.tokens == packed_rows.tokens
    moved, apart = distances(
        Path(recipe.checkpoint), directory / "checkpoint", tmp_path / "checkpoint"
    )
    assert moved > 0.1
    assert apart / moved < 1e-5


def test_a_training_may_resume_with_another_layout(
    recipe_file: Path, tmp_path: Path, whole: Whole
) -> None:
    """Micro-batches and packing are no part of what identifies a run."""
    recipe = load_recipe(recipe_file)
    with pytest.raises(Interrupted):
        train(recipe, "cotbal", tmp_path / "cut", stop_after=5)
    train(
        load_recipe(recipe_file, (*PACKING, "optimization.micro_batch_size=8")),
        "cotbal",
        tmp_path / "cut",
    )
    moved, apart = distances(
        Path(recipe.checkpoint), whole("cotbal")[0] / "checkpoint", tmp_path / "cut" / "checkpoint"
    )
    assert moved > 0.1
    assert apart / moved < 1e-5


def distances(base: Path, one: Path, other: Path) -> tuple[float, float]:
    """How far `one` moved from the base, and how far it is from `other`."""
    first, second, third = (load_file(path / "model.safetensors") for path in (base, one, other))
    pairs = [(second[name] - first[name], second[name] - third[name]) for name in first]
    moved, apart = (
        torch.cat([part.flatten() for part in parts]) for parts in zip(*pairs, strict=True)
    )
    return float(moved.norm()), float(apart.norm())


def test_a_model_that_cannot_be_packed_is_not_trained(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(recipe_file, PACKING)
    _, processor = vlm.load(recipe.checkpoint, "float32", False)
    monkeypatch.setattr(
        vlm, "load", lambda *_: (Deaf.from_pretrained(recipe.checkpoint), processor)
    )
    with raises(CotbalError, "unsupported-packing", "Deaf", "optimization.packing=false"):
        train(recipe, "cotbal", tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert train(load_recipe(recipe_file), "cotbal", tmp_path / "padded").steps == STEPS


def test_a_family_that_brings_other_fields_is_not_trained(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Collator._tokens
    grid = {"image_grid_thw": torch.ones(1, 3, dtype=torch.long)}
    monkeypatch.setattr(Collator, "_tokens", lambda *args: {**tokens(*args), **grid})
    with raises(DataError, "model-not-supported", "image_grid_thw", "optimization.packing: false"):
        train(load_recipe(recipe_file, PACKING), "cotbal", tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
