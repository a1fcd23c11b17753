from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cotbal.benchmarks import pocket
from cotbal.data.sampling import read_manifest
from cotbal.errors import DataError
from cotbal.jobs.checkpoint_files import checkpoint_digest
from cotbal.jobs.inputs import (
    differences,
    identity,
    identity_digest,
    open_inputs,
    small_minis,
    warnings,
    write_portions,
)
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import Run, curve_runs, final_run, plan_probes
from helpers.errors import raises
from helpers.pipeline_fakes import offer_options


def recipe(path: Path, *overrides: str) -> Recipe:
    return load_recipe(path, overrides)


def of(
    path: Path, *overrides: str, final: bool = False, weights: dict[str, float] | None = None
) -> dict[str, Any]:
    """Identity of the probe `full:ocr`, or of the final run."""
    read = recipe(path, *overrides)
    run: Run = final_run(read.mixture, "cotbal") if final else _full_ocr(read)
    return identity(read, run, open_inputs(read), checkpoint_digest(read.checkpoint), weights)


def _full_ocr(read: Recipe) -> Run:
    return next(run for run in plan_probes(read.mixture) if run.name == "full:ocr")


def test_replicates_do_not_belong_to_the_identity_of_a_run(recipe_path: Path) -> None:
    assert of(recipe_path, "balance.replicates=7") == of(recipe_path)


@pytest.mark.parametrize(
    ("override", "entry"),
    [
        ("optimization.learning_rate=1e-4", "optimization.learning_rate: was 2e-05, is 0.0001"),
        ("optimization.batch_size=32", "optimization.batch_size: was 16, is 32"),
        ("optimization.epochs=3", "optimization.epochs: was 1.0, is 3.0"),
        ("portions.mini=1/4", "portions.mini: was '1/8', is '1/4'"),
        ("portions.seed=1", "portions.seed: was 0, is 1"),
        ("generation.max_new_tokens=8", "generation.max_new_tokens: was 64, is 8"),
        ("model.vision=lora", "model.vision: was 'frozen', is 'lora'"),
        ("model.max_length=64", "model.max_length: was 2048, is 64"),
        ("on_missing_image=drop", "on_missing_image: was 'error', is 'drop'"),
        ("tasks.vqa.instruction=Be brief.", "instruction.vqa: was None, is 'Be brief.'"),
    ],
)
def test_what_determines_a_run_is_named_when_it_changes(
    recipe_path: Path, override: str, entry: str
) -> None:
    assert differences(of(recipe_path), of(recipe_path, override)) == [entry]


def test_how_answers_are_chosen_determines_the_runs_that_answer(recipe_path: Path) -> None:
    offer_options(recipe_path.parent / "vqa_validation.jsonl")
    settings = ("tasks.vqa.test=null", "tasks.vqa.choose=sum")
    before, now = of(recipe_path, settings[0]), of(recipe_path, *settings)
    assert differences(before, now) == ["choose: was None, is {'vqa': 'sum'}"]
    assert differences(now, of(recipe_path, *settings[:1], "tasks.vqa.choose=mean")) == [
        "choose: was {'vqa': 'sum'}, is {'vqa': 'mean'}"
    ]
    assert "choose" not in before


@pytest.mark.parametrize(
    "override",
    [
        "optimization.micro_batch_size=8",
        "optimization.group_by_length=false",
        "optimization.packing=true",
        "optimization.checkpoint_steps=7",
        "optimization.max_passes=2",
        "model.gradient_checkpointing=true",
        "model.compile=true",
        "generation.batch_size=2",
        "balance.temperature=auto",
        "balance.bootstrap=999",
        "tasks.vqa.metric=cider",
        "tasks.vqa.test_metrics=[cider]",
        "name=other",
    ],
)
def test_what_does_not_determine_a_run_may_change(recipe_path: Path, override: str) -> None:
    assert differences(of(recipe_path), of(recipe_path, override)) == []


@pytest.mark.parametrize(
    ("override", "entry"),
    [
        ("optimization.micro_batch_size=8", "optimization.micro_batch_size: was 4, is 8"),
        ("resources={gpus: 0, ranks: 2}", "resources.ranks: was 1, is 2"),
    ],
)
def test_what_cuts_a_batch_determines_a_run_that_normalizes_per_device(
    recipe_path: Path, override: str, entry: str
) -> None:
    assert differences(of(recipe_path), of(recipe_path, override)) == []
    published = "optimization.normalizer=per_device"
    assert differences(of(recipe_path, published), of(recipe_path, published, override)) == [entry]


def test_changed_bytes_of_a_file_are_noticed(recipe_path: Path) -> None:
    before = of(recipe_path)
    final = of(recipe_path, final=True)
    file = recipe_path.parent / "vqa_validation.jsonl"
    file.write_text(file.read_text().replace("answer 3", "answer 33", 1))
    (line,) = differences(before, of(recipe_path))
    assert line.startswith("tasks.vqa.validation: was ")
    assert differences(final, of(recipe_path, final=True)) == [], (
        "a final run does not look at validation sets"
    )


def test_a_probe_does_not_depend_on_what_it_does_not_see(recipe_path: Path) -> None:
    before = of(recipe_path)
    for file in ("vqa_test", "chat_train"):
        path = recipe_path.parent / f"{file}.jsonl"
        path.write_text(path.read_text().replace("answer 3", "answer 33", 1))
    assert differences(before, of(recipe_path)) == []


def test_weights_determine_a_final_run(recipe_path: Path) -> None:
    weights = dict.fromkeys(("ocr", "vqa", "count", "chat"), 1.0)
    one, other = (of(recipe_path, final=True, weights={**weights, "ocr": w}) for w in (1.2, 1.3))
    (line,) = differences(one, other)
    assert line.startswith("weights: was {'ocr': 1.2")
    assert len(line) < 200


def test_ratios_determine_a_run_and_runs_without_them_keep_their_identity(
    recipe_path: Path,
) -> None:
    read = recipe(recipe_path)
    inputs, plain = open_inputs(read), final_run(read.mixture, "ew")
    ratios = {"ocr": 1.5, "vqa": 0.5, "count": 1.0, "chat": 1.0}
    one, other, none = (
        identity(read, replace(plain, ratios=of_tasks), inputs, "digest", None)
        for of_tasks in (ratios, {**ratios, "ocr": 1.6}, None)
    )
    assert "run.ratios" not in none
    (line,) = differences(one, other)
    assert line.startswith("run.ratios: was {'ocr': 1.5")
    assert len(differences(none, one)) == 1


def test_an_fraction_does_not_depend_on_the_sizes_of_the_portions(recipe_path: Path) -> None:
    """A curve is drawn to find the size of the mini; setting it must not rerun the curve."""

    def fraction(*overrides: str) -> dict[str, Any]:
        read = recipe(recipe_path, *overrides)
        (run,) = curve_runs(read.mixture, ("1/4",), alone=False)
        return identity(read, run, open_inputs(read), "digest", None)

    assert differences(fraction(), fraction("portions.mini=1/4", "portions.large=1/2")) == []
    assert differences(fraction(), fraction("portions.seed=1")) == ["portions.seed: was 0, is 1"]


def test_data_and_runs_may_move(recipe_path: Path, tmp_path: Path) -> None:
    before = of(recipe_path, final=True)
    moved = shutil.move(recipe_path.parent, tmp_path / "elsewhere")
    assert differences(before, of(Path(moved) / recipe_path.name, final=True)) == []


def test_replaced_images_are_noticed_and_copied_ones_are_the_same(
    recipe_path: Path, tmp_path: Path
) -> None:
    before = of(recipe_path, final=True)
    copied = shutil.copytree(recipe_path.parent, tmp_path / "copy", copy_function=shutil.copyfile)
    assert differences(before, of(copied / recipe_path.name, final=True)) == []
    Image.new("RGB", (4, 4), "blue").save(recipe_path.parent / "images" / "a.png")
    lines = differences(before, of(recipe_path, final=True))
    assert len(lines) == 8
    assert lines[0].startswith("tasks.ocr.test.images: was ")


def test_an_image_that_was_lost_since_is_noticed(recipe_path: Path) -> None:
    """With `drop` it takes its records with it."""
    before = of(recipe_path, "on_missing_image=drop")
    (recipe_path.parent / "images" / "b.png").unlink()
    lines = differences(before, of(recipe_path, "on_missing_image=drop"))
    assert {line.partition(":")[0] for line in lines} > {"tasks.ocr.train.records"}


def test_no_two_sets_are_mistaken_for_each_other(recipe_path: Path) -> None:
    text = recipe_path.read_text()
    recipe_path.write_text(
        text.replace("  vqa:", "  ocr.x:")
        .replace("    test: ocr_test.jsonl", "    test: {x.y: ocr_test.jsonl}")
        .replace("    test: vqa_test.jsonl", "    test: {y: vqa_test.jsonl}")
    )
    inputs = open_inputs(recipe(recipe_path))
    entries = of(recipe_path, final=True)
    assert len(inputs.opened) == 12
    assert len({value for key, value in entries.items() if key.endswith(("%2Ey", ".y"))}) == 2


def test_an_instruction_is_not_mistaken_for_a_split_of_that_name(recipe_path: Path) -> None:
    text = recipe_path.read_text()
    recipe_path.write_text(
        text.replace("    test: vqa_test.jsonl", "    test: {instruction: vqa_test.jsonl}")
    )
    before = of(recipe_path, final=True)
    assert differences(before, of(recipe_path, "tasks.vqa.instruction=Be brief.", final=True)) == [
        "instruction.vqa: was None, is 'Be brief.'"
    ]


@pytest.mark.parametrize("portions", [0.5, ["vqa", 1], "vqa", None])
def test_an_identity_of_another_form_differs(recipe_path: Path, portions: object) -> None:
    before = of(recipe_path)
    (line,) = differences({**before, "run.portions": portions}, before)
    assert line.startswith(f"run.portions: was {portions!r}, is ")
    identity_digest({**before, "run.portions": portions})


def test_another_order_of_the_tasks_is_another_training(recipe_path: Path) -> None:
    """Their rows would be shuffled from another order on, so a training that was interrupted must
    not continue with it.
    """
    text = recipe_path.read_text()
    turned = recipe_path.with_name("turned.yaml")
    read = yaml.safe_load(text)
    read["tasks"] = dict(reversed(read["tasks"].items()))
    turned.write_text(yaml.safe_dump(read, sort_keys=False))
    (line,) = differences(of(recipe_path), json.loads(json.dumps(of(turned))))
    assert line == "order of the tasks: was ['ocr', 'vqa', 'count'], is ['count', 'vqa', 'ocr']"


def test_identities_differ_in_their_digests_as_in_their_entries(recipe_path: Path) -> None:
    before = of(recipe_path, final=True, weights={"ocr": 1.5, "vqa": 0.5})
    turned = dict(reversed(before.items())) | {"weights": {"vqa": 0.5, "ocr": 1.5}}
    whole = of(recipe_path, "digest_images=true", final=True, weights=turned["weights"])
    for same in (json.loads(json.dumps(before)), turned, whole):
        assert differences(before, same) == []
        assert identity_digest(same) == identity_digest(before)
    portions = dict(reversed(before["run.portions"].items()))
    image = next(key for key in before if key.endswith(".images"))
    changes = [{"run.portions": portions}, {"run.seed": 1}, {image: "other"}, {"weights": None}]
    for change in changes:
        assert differences(before, before | change)
        assert identity_digest(before | change) != identity_digest(before)


def test_the_seed_of_the_training_is_that_of_the_run(recipe_path: Path) -> None:
    read = recipe(recipe_path)
    inputs = open_inputs(read)
    one, other = (
        identity(read, plan_probes(read.mixture, seeds=(s,))[0], inputs, "digest", None)
        for s in (0, 1)
    )
    assert differences(one, other) == ["run.seed: was 0, is 1"]


def test_a_checkpoint_is_its_content(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "deep").mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "deep" / "model.safetensors").write_bytes(b"\0" * 100)
    before = checkpoint_digest(str(base))
    shutil.copytree(base, tmp_path / "copy")
    assert checkpoint_digest(str(tmp_path / "copy")) == before
    (base / "config.json").write_text("[]")
    changed = checkpoint_digest(str(base))
    (base / "config.json").rename(base / "config.yaml")
    assert len({before, changed, checkpoint_digest(str(base))}) == 3


def test_a_hub_model_stands_for_itself() -> None:
    assert checkpoint_digest("llava-hf/llava-1.5-7b-hf") == "llava-hf/llava-1.5-7b-hf"


def test_portions_are_nested_and_the_same_in_every_job(recipe_path: Path, tmp_path: Path) -> None:
    read = recipe(recipe_path, "portions.large=1/2")
    inputs = open_inputs(read)
    roots = [RunDir(tmp_path / name) for name in ("one", "two")]
    for root in roots:
        write_portions(read, open_inputs(read), root)
    for task, portioned in inputs.portions.items():
        mini, large, full = (set(portioned.of(name).tolist()) for name in ("mini", "large", "full"))
        assert mini < large < full
        assert (len(mini), len(large), len(full)) == (8, 32, 64)
        texts = [root.portions(task).read_bytes() for root in roots]
        assert texts[0] == texts[1]
        read_back = read_manifest(roots[0].portions(task))
        assert read_back.indices.tolist() == portioned.indices.tolist()
        assert read_back.order.tolist() == portioned.order.tolist()
        assert texts[0].decode().splitlines()[1].split(",")[1] == f"{task}_train_0"


def test_a_mini_does_not_depend_on_the_other_tasks(recipe_path: Path, tmp_path: Path) -> None:
    alone = recipe_path.with_name("alone.yaml")
    alone.write_text(recipe_path.read_text().replace("  vqa:", "  visual_qa:"))
    one, other = open_inputs(recipe(recipe_path)), open_inputs(recipe(alone))
    assert one.portions["ocr"].of("mini").tolist() == other.portions["ocr"].of("mini").tolist()


def test_warnings(recipe_path: Path) -> None:
    read = recipe(recipe_path, "tasks.ocr.test=null")
    inputs = open_inputs(read)
    (small,) = small_minis(read, inputs)
    (untested,) = warnings(read, inputs)
    assert "1000" in small
    assert "ocr 8, vqa 8, count 8" in small
    assert "chat" not in small
    assert "ocr" in untested


def test_packing_of_single_records_is_remarked_upon(recipe_path: Path) -> None:
    def remarks(*overrides: str) -> list[str]:
        read = recipe(recipe_path, "optimization.packing=true", *overrides)
        return [line for line in warnings(read, open_inputs(read)) if "packing" in line]

    assert remarks() == []
    (line,) = remarks("optimization.micro_batch_size=1")
    assert "micro_batch_size 1" in line


def test_records_left_out_are_counted(recipe_path: Path) -> None:
    (recipe_path.parent / "images" / "b.png").unlink()
    with raises(DataError, "missing-image", "on_missing_image: drop"):
        open_inputs(recipe(recipe_path))
    read = recipe(recipe_path, "on_missing_image=drop")
    inputs = open_inputs(read)
    assert inputs.sizes["ocr"]["full"] == 64 - 11
    assert inputs.evaluation["ocr.validation"] == 80 - 13
    assert inputs.evaluation is inputs.evaluation, "every run of a plan asks for all counts"
    assert inputs.sizes is inputs.sizes
    assert any(f"{len(inputs.dropped)} records" in line for line in warnings(read, inputs))


def test_a_task_of_which_nothing_is_left_is_an_error(recipe_path: Path) -> None:
    """Better now than a score of nothing at the end."""
    path = recipe_path.parent / "ocr_validation.jsonl"
    path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True) if "b.png" in line)
    )
    (recipe_path.parent / "images" / "b.png").unlink()
    with raises(DataError, "no-records", "ocr_validation.jsonl"):
        open_inputs(recipe(recipe_path, "on_missing_image=drop"))


def test_references_that_a_metric_cannot_score_stop_the_job_before_it_starts(
    recipe_path: Path,
) -> None:
    with raises(DataError, "unusable-reference", "ocr_validation.jsonl, record 1", "vqa_soft"):
        open_inputs(recipe(recipe_path, "tasks.ocr.metric=vqa_soft"))


def test_quantization_is_part_of_the_identity_only_when_set(recipe_path: Path) -> None:
    """Runs of before there was such a setting stay valid."""
    plain, quantized = of(recipe_path, "model.language=lora"), of(recipe_path, *QLORA)
    assert "model.quantization" not in plain
    assert differences(plain, quantized) == ["model.quantization: was None, is 'nf4'"]


QLORA = ("model.language=lora", "model.quantization=nf4")


def test_references_that_no_answer_can_match_stop_the_job_before_it_starts(
    recipe_path: Path,
) -> None:
    """And what a metric of a user's own says of its references is a remark of the plan."""
    base = Path(pocket.__file__).parent / "base"
    shutil.copy(base / "tokenizer.json", recipe_path.parent / "base")
    read = recipe(recipe_path, "generation.max_new_tokens=2")
    with raises(DataError, "invalid-records", "ocr_validation.jsonl, record 1"):
        open_inputs(read)
    inputs = replace(open_inputs(recipe(recipe_path)), remarks=("a remark",))
    assert warnings(read, inputs)[0] == "a remark"
