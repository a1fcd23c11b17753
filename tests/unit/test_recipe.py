from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from cotbal.errors import RecipeError
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.starter import STARTER
from helpers.errors import raises

MINIMAL = """\
name: pocket
tasks:
  vqa: {train: data/vqa_train.jsonl, validation: data/vqa_validation.jsonl}
"""


def write(directory: Path, text: str = MINIMAL) -> Path:
    path = directory / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(directory: Path, text: str = MINIMAL, *overrides: str) -> Recipe:
    return load_recipe(write(directory, text), overrides)


def problems(directory: Path, text: str = MINIMAL, *overrides: str) -> str:
    """The message of a recipe that is not valid."""
    with raises(RecipeError, "invalid-recipe", directory / "recipe.yaml") as caught:
        load(directory, text, *overrides)
    return str(caught.value)


def test_defaults_are_those_of_the_paper(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    assert recipe.file.optimization.learning_rate == 2e-5
    assert recipe.file.optimization.batch_size == 128
    assert recipe.file.portions.mini == Fraction(1, 32)
    assert recipe.file.portions.large == 1
    assert recipe.file.balance.temperature == 0.5
    assert recipe.file.balance.weight_range == (0.5, 2.0)
    assert recipe.mixture["vqa"].metric == "exact_match"
    assert recipe.mixture["vqa"].test_metrics == ("exact_match",)


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    text = MINIMAL + "images: images\nmodel: {checkpoint: base}\n"
    path = write(tmp_path, text.replace("data/vqa_validation", str(tmp_path / "elsewhere/v")))
    monkeypatch.chdir(tmp_path.parent)
    recipe = load_recipe(Path(tmp_path.name) / path.name)
    assert recipe.images == tmp_path / "images"
    assert recipe.mixture["vqa"].train == tmp_path / "data/vqa_train.jsonl"
    assert recipe.mixture["vqa"].validation == tmp_path / "elsewhere/v.jsonl"
    assert recipe.checkpoint == str(tmp_path / "base")


def test_a_checkpoint_that_lies_nowhere_is_the_name_of_a_hub_model(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL + "model: {checkpoint: llava-hf/llava-1.5-7b-hf}\n")
    assert recipe.checkpoint == "llava-hf/llava-1.5-7b-hf"


@pytest.mark.parametrize("name", ["x" * 5000, '"a\\0b"'])
def test_a_checkpoint_that_no_file_can_be(tmp_path: Path, name: str) -> None:
    recipe = load(tmp_path, f"{MINIMAL}model: {{checkpoint: {name}}}\n")
    assert len(recipe.checkpoint) in (3, 5000)
    assert recipe.fingerprint


def test_without_a_model_a_recipe_can_plan_but_not_train(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    with raises(RecipeError, "missing-model", "`model`"):
        _ = recipe.model


@pytest.mark.parametrize(
    ("key", "guess"),
    [("nmae", "name"), ("optimisation", "optimization"), ("tasks.vqa.metrics", "metric")],
)
def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path: Path, key: str, guess: str) -> None:
    message = problems(tmp_path, MINIMAL, f"{key}=1")
    assert f"{key}: " in message
    assert repr(guess) in message


def test_an_unknown_key_like_no_other_is_refused_too(tmp_path: Path) -> None:
    assert "zzzzzz: " in problems(tmp_path, MINIMAL, "zzzzzz=1")


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    text = """\
images: 3
tasks:
  vqa: {train: t, validation: v, metrik: cider}
  "a/b": {train: t, validation: v}
  chat: {train: t}
  empty: {}
model: {vision: thawed, lora: {rank: 0}}
optimization: {batch_size: 100, micro_batch_size: 16, epochs: zero, warmup_ratio: 1}
portions: {mini: 1/2, large: 1/4}
balance: {temperature: 0, weight_range: [1.5, 2]}
"""
    message = problems(tmp_path, text)
    for field in (
        "name",
        "images",
        "tasks.vqa.metrik",
        "tasks.a/b",
        "tasks.chat",
        "tasks.empty",
        "model.checkpoint",
        "model.vision",
        "model.lora.rank",
        "optimization.epochs",
        "optimization.warmup_ratio",
        "portions",
        "balance.temperature",
    ):
        assert f"\n  {field}: " in message, field


WRONG: dict[str, tuple[str, ...]] = {
    "balance.temperature=hot": ("balance.temperature", "'auto'", "'hot'"),
    "balance.temperature=-1": ("balance.temperature", "0", "'auto'", "-1"),
    "balance.replicates=0": ("balance.replicates", "1", "0"),
    "balance.replicates=two": ("balance.replicates", "'two'"),
    "tasks.vqa.test=3": ("tasks.vqa.test", "3"),
    "tasks.vqa.test={a: 3}": ("tasks.vqa.test.a", "3"),
    "tasks.vqa.test={a b: x}": ("tasks.vqa.test.a b",),
    "tasks.größe={train: t, validation: v}": ("tasks.größe",),
    "tasks.vqa=3": ("tasks.vqa", "3"),
    "tasks={}": ("tasks",),
    "tasks.vqa.test_metrics=cider": ("tasks.vqa.test_metrics", "[a, b]", "'cider'"),
    "tasks.vqa.balanced=maybe": ("tasks.vqa.balanced", "true", "false", "'maybe'"),
    "optimization.batch_size=many": ("optimization.batch_size", "'many'"),
    "optimization.epochs=-1": ("optimization.epochs", "0", "-1"),
    "optimization.schedule=cosin": ("optimization.schedule", "'linear'", "'cosin'", "'cosine'"),
    "resources.memory=lots": ("resources.memory", "'lots'"),
    "resources.image_features=some": ("resources.image_features", "'some'"),
    "resources.hours=12:00:00": ("resources.hours", "'12:00:00'"),
    "optimization.packing=on": ("optimization.packing", "true", "false", "'on'"),
    "weightings={a: {float: x}}": ("weightings.a.float", "'x'"),
    "name=3": ("name", "3"),
    "optimization.learning_rate=.inf": ("optimization.learning_rate", "inf"),
    "optimization.epochs=true": ("optimization.epochs", "True"),
    "generation.batch_size=true": ("generation.batch_size", "True"),
    "resources.hours=.inf": ("resources.hours", "inf"),
    "balance.weight_range=[0.5, .inf]": ("balance.weight_range.1", "inf"),
    "balance.equal_below=false": ("balance.equal_below", "False"),
    "balance.bootstrap=.inf": ("balance.bootstrap", "inf"),
    "response.step=true": ("response.step", "True"),
    "weightings={dwa: {window: true}}": ("weightings.dwa.window", "True"),
    "weightings={dwa: {window: .inf}}": ("weightings.dwa.window", "inf"),
    "weightings={a: {float: .inf}}": ("weightings.a.float", "inf"),
    "optimization.seed=-1": ("optimization.seed", "0", "-1"),
    "optimization.seed=4294967296": ("optimization.seed", "4294967295", "4294967296"),
    "balance.seeds=[3, 4294967296]": ("balance.seeds.1", "4294967295", "4294967296"),
    "response.seeds=[3, -1]": ("response.seeds.1", "-1"),
    "portions.seed=-1": ("portions.seed", "-1"),
    "balance.seed=-1": ("balance.seed", "-1"),
}


@pytest.mark.parametrize(("override", "names"), WRONG.items(), ids=WRONG)
def test_a_wrong_value_is_named_once_and_without_jargon(
    tmp_path: Path, override: str, names: tuple[str, ...]
) -> None:
    _, line = problems(tmp_path, MINIMAL, override).splitlines()
    assert line.startswith(f"  {names[0]}: ")
    for name in names:
        assert name in line
    for jargon in (
        "Input should",
        "constrained-",
        "literal[",
        "lax-or-strict",
        "[key]",
        "dictionary",
        "instance of",
    ):
        assert jargon not in line


def test_a_mini_as_large_as_the_large_portion_is_refused(tmp_path: Path) -> None:
    """All probes would be one and the same training."""
    assert "portions: " in problems(tmp_path, MINIMAL, "portions.mini=1")


def test_a_micro_batch_must_divide_the_batch(tmp_path: Path) -> None:
    message = problems(tmp_path, MINIMAL, "optimization.batch_size=100")
    for name in ("batch_size", "micro_batch_size", "100", "16"):
        assert name in message


@pytest.mark.parametrize("bounds", ["[1.5, 2]", "[0.2, 0.9]", "[0, 2]", "[2, 0.5]", "[1, 2]"])
def test_the_weight_range_holds_one(tmp_path: Path, bounds: str) -> None:
    assert "weight_range" in problems(tmp_path, MINIMAL, f"balance.weight_range={bounds}")


def test_an_unbalanced_task_needs_no_validation_set(tmp_path: Path) -> None:
    text = MINIMAL + "  chat: {train: c.jsonl, balanced: false}\n"
    recipe = load(tmp_path, text)
    assert recipe.mixture["chat"].validation is None
    assert [task.name for task in recipe.mixture.balanced] == ["vqa"]
    with raises(RecipeError, "no-balanced-task"):
        load(tmp_path, text, "tasks.vqa.balanced=false")


GUARD = MINIMAL + "  guard: {validation: g.jsonl, test: {a: ga.jsonl}, instruction: Be brief.}\n"


def test_a_task_without_training_data_is_only_evaluated(tmp_path: Path) -> None:
    recipe = load(tmp_path, GUARD)
    mixture = recipe.mixture
    assert [task.name for task in mixture.trained] == ["vqa"]
    assert [task.name for task in mixture.only_evaluated] == ["guard"]
    assert [task.name for task in mixture.balanced] == ["vqa"]
    assert mixture.units == ("vqa",)
    assert list(mixture["guard"].files) == ["validation", "a"]
    assert mixture["guard"].folder == tmp_path
    resolved = write(tmp_path, recipe.to_yaml())
    assert load_recipe(resolved).mixture == mixture
    with raises(RecipeError, "no-balanced-task"):
        load(tmp_path, GUARD, "tasks.vqa={test: t.jsonl}")


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("tasks.guard={}", "training set"),
        ("tasks.guard={test: {}}", "training set"),
        ("tasks.guard.balanced=true", "balanced"),
        ("tasks.guard.group=questions", "group"),
        ("tasks.vqa.group=guard", "guard"),
    ],
)
def test_what_a_task_without_training_data_cannot_have(
    tmp_path: Path, override: str, field: str
) -> None:
    message = problems(tmp_path, GUARD, override)
    assert len(message.splitlines()) == 2
    assert field in message


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("1/32", Fraction(1, 32)),
        ("0.25", Fraction(1, 4)),
        ("1", Fraction(1)),
        ("3/4", Fraction(3, 4)),
    ],
)
def test_rates(tmp_path: Path, value: str, rate: Fraction) -> None:
    assert (
        load(tmp_path, MINIMAL, f"portions.large={value}", "portions.mini=1/64").file.portions.large
        == rate
    )


# as text, so that YAML leaves them to the recipe
LONG = ["'1e-9999999'", "'1e-99999999999'", "1e-9999999", f"1/{'9' * 4000}", f"'{'9' * 5000}'"]


@pytest.mark.parametrize(
    "value", ["0", "-1/2", "3/2", "half", "1/0", "[1]", "true", "null", ".nan", ".inf", *LONG]
)
def test_rates_that_are_none(tmp_path: Path, value: str) -> None:
    assert "portions.mini" in problems(tmp_path, MINIMAL, f"portions.mini={value}")


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optimization.epochs=2", lambda r: r.file.optimization.epochs == 2),
        ("balance.temperature=auto", lambda r: r.file.balance.temperature == "auto"),
        ("balance.weight_range=[0.7, 1.4]", lambda r: r.file.balance.weight_range == (0.7, 1.4)),
        (
            "tasks.vqa.instruction=One word = one answer.",
            lambda r: "= one" in (r.mixture["vqa"].instruction or ""),
        ),
        (
            "tasks.vqa.test={A: a.jsonl, B: b.jsonl}",
            lambda r: list(r.mixture["vqa"].test) == ["A", "B"],
        ),
        ("tasks.ocr={train: t, validation: v}", lambda r: "ocr" in r.mixture.units),
    ],
)
def test_overrides(tmp_path: Path, override: str, read: Any) -> None:
    assert read(load(tmp_path, MINIMAL, override))


@pytest.mark.parametrize(
    ("override", "code", "named"),
    [
        ("epochs", "invalid-option", "'epochs'"),
        ("=3", "invalid-option", "'=3'"),
        ("name.first=x", "invalid-option", "'name'"),
        ("optimization.epoch=2", "invalid-recipe", "'epochs'"),
        ("optimization.epochs=[1", "invalid-option", "optimization.epochs"),
        ("optimization.epochs={", "invalid-option", "optimization.epochs"),
    ],
)
def test_overrides_that_make_no_sense(tmp_path: Path, override: str, code: str, named: str) -> None:
    with raises(RecipeError, code, named):
        load(tmp_path, MINIMAL, override)


def test_a_written_recipe_keeps_texts_that_look_like_values(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL, "tasks.vqa.instruction='1e-4'", "name='2024'")
    again = load(tmp_path, recipe.to_yaml())
    assert again.mixture["vqa"].instruction == "1e-4"
    assert again.name == "2024"


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        (MINIMAL + "name: other\n", "broken-file", "'name'"),
        (MINIMAL + "  vqa: {train: t, validation: v}\n", "broken-file", "'vqa'"),
        ("- a\n- b\n", "wrong-type", "list"),
        ("", "wrong-type", ""),
        ("name: [", "broken-file", ""),
        ("? [a, b]\n: 1\n", "broken-file", ""),
        ("name: !!python/object/apply:os.system [ls]\n", "broken-file", "os.system"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, code: str, named: str) -> None:
    with raises(RecipeError, code, tmp_path / "recipe.yaml", named):
        load(tmp_path, text)


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with raises(RecipeError, "missing-file", path, "cotbal init"):
            load_recipe(path)


def test_not_a_text(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with raises(RecipeError, "broken-file", path):
        load_recipe(path)


@pytest.mark.parametrize("name", ["a/b", "a b", "", "../a", "ä", "-a", "full:a"])
def test_names_that_no_file_system_would_like(tmp_path: Path, name: str) -> None:
    content = yaml.safe_load(MINIMAL)
    content["tasks"][name] = {"train": "t", "validation": "v"}
    assert f"\n  tasks.{name}: " in problems(tmp_path, yaml.safe_dump(content))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_test_split_must_not_take_the_name_of_another(tmp_path: Path, split: str) -> None:
    """Its answers and scores would lie where those of the validation set lie."""
    assert split in problems(tmp_path, MINIMAL, f"tasks.vqa.test={{{split}: t.jsonl}}")


def test_a_group_must_not_take_the_name_of_a_task_outside_it(tmp_path: Path) -> None:
    """The two would become one unit, and share one weight unasked."""
    message = problems(tmp_path, MINIMAL, "tasks.ocr={train: t, validation: v, group: vqa}")
    assert "vqa" in message
    assert "group" in message


def test_the_resolved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    recipe = load_recipe(
        write(tmp_path, STARTER), ["portions.mini=1/7", "balance.temperature=auto"]
    )
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    again = load_recipe(write(elsewhere, recipe.to_yaml()))
    assert again.mixture == recipe.mixture
    assert again.images == recipe.images
    assert again.checkpoint == recipe.checkpoint
    assert again.file.portions == recipe.file.portions
    assert again.to_yaml() == recipe.to_yaml()


def test_the_resolved_recipe_has_the_same_fingerprint(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, STARTER))
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    assert load_recipe(write(elsewhere, recipe.to_yaml())).fingerprint == recipe.fingerprint


def test_the_fingerprint_is_that_of_the_settings(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    assert load(tmp_path, "# a remark\n" + MINIMAL).fingerprint == recipe.fingerprint
    assert load(tmp_path, MINIMAL, "optimization.epochs=2").fingerprint != recipe.fingerprint
    assert load(tmp_path, MINIMAL, "tasks.vqa.metric=cider").fingerprint != recipe.fingerprint


def test_answers_are_generated_unless_a_task_chooses(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    assert recipe.mixture["vqa"].choose is None
    assert "choose" not in recipe.to_yaml()
    choosing = load(tmp_path, MINIMAL, "tasks.vqa.choose=mean")
    assert load_recipe(write(tmp_path, choosing.to_yaml())).mixture["vqa"].choose == "mean"
    assert choosing.fingerprint != recipe.fingerprint
    with raises(RecipeError, "invalid-recipe", "tasks.vqa.choose", "'sum'", "'mean'"):
        load(tmp_path, MINIMAL, "tasks.vqa.choose=likelihood")


def test_the_starter_is_a_recipe(tmp_path: Path) -> None:
    recipe = load(tmp_path, STARTER)
    assert recipe.mixture.units == ("vqa", "caption")
    assert recipe.model.vision == "frozen"


PROBES = (
    "probes: {model: {language: lora, checkpoint: small}, optimization: {learning_rate: 0.5}}\n"
)


def test_probes_may_be_cheaper_than_final_runs(tmp_path: Path) -> None:
    for name in ("base", "small"):
        (tmp_path / name).mkdir()
    recipe = load_recipe(
        write(tmp_path, MINIMAL + "model: {checkpoint: base, dtype: float32}\n" + PROBES)
    )
    probes = recipe.for_probes
    assert (probes.model.language, probes.model.dtype) == ("lora", "float32")
    assert probes.file.optimization.learning_rate == 0.5
    assert probes.checkpoint == str(tmp_path / "small")
    assert (recipe.model.language, recipe.checkpoint) == ("full", str(tmp_path / "base"))
    assert probes.mixture == recipe.mixture
    assert probes.for_probes == probes
    plain = load_recipe(write(tmp_path))
    assert plain.for_probes.file == plain.file


def test_a_recipe_that_was_moved_keeps_the_checkpoint_of_its_probes(tmp_path: Path) -> None:
    for name in ("base", "small"):
        (tmp_path / name).mkdir()
    recipe = load_recipe(write(tmp_path, MINIMAL + "model: {checkpoint: base}\n" + PROBES))
    (tmp_path / "elsewhere").mkdir()
    moved = load_recipe(write(tmp_path / "elsewhere", recipe.to_yaml()))
    assert moved.for_probes.checkpoint == recipe.for_probes.checkpoint == str(tmp_path / "small")
    assert moved.seeds == recipe.seeds == (0,)


def test_seeds_of_the_probes(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path), ["optimization.seed=7"]).seeds == (7,)
    assert load_recipe(write(tmp_path), ["balance.seeds=[3, 1]"]).seeds == (3, 1)
    for seeds in ("[]", "[1, 2, 1]"):
        assert "balance.seeds" in problems(tmp_path, MINIMAL, f"balance.seeds={seeds}")


def test_seeds_that_follow_the_first_are_seeds_too(tmp_path: Path) -> None:
    last = 2**32 - 1
    assert load(tmp_path, MINIMAL, f"optimization.seed={last - 2}").trainings == 3
    assert str(last) in problems(tmp_path, MINIMAL, f"optimization.seed={last - 1}")
    with raises(RecipeError, "invalid-recipe", "seed"):
        load(tmp_path, MINIMAL, "probes.optimization={seed: -1}")


def test_replicates_of_the_probes(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL, "optimization.seed=7")
    assert (recipe.replicates, recipe.trainings) == (3, 3)
    assert [recipe.replicate_of(run) for run in recipe.probe_runs] == [1, 1, 2, 3]
    several = load(tmp_path, MINIMAL, "balance.seeds=[7, 8]", "balance.replicates=5")
    assert (several.replicates, several.trainings) == (1, 2)
    assert [several.replicate_of(run) for run in several.probe_runs] == [1, 1, 1, 1]
    assert [several.replicate_of(run) for run in recipe.probe_runs] == [1, 1, 1, None]
    simple = load(tmp_path, MINIMAL, "balance.form=simple", "balance.replicates=2")
    assert [simple.replicate_of(run) for run in simple.probe_runs] == [1, 1, 1, 2]
    # A single-task model that another command trains with the next seed is no replicate.
    assert simple.replicate_of(replace(simple.probe_runs[1], seed=1)) is None


def test_probes_of_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert "probes.model" in problems(tmp_path, MINIMAL, "probes.model.language=lora")


def test_what_is_quantized_is_trained_with_adapters(tmp_path: Path) -> None:
    message = problems(tmp_path, MINIMAL, "model={checkpoint: x, quantization: nf4}")
    assert "model: quantization" in message
    chosen = load(tmp_path, MINIMAL, "model={checkpoint: x, quantization: nf4, language: lora}")
    assert "quantization: nf4" in chosen.to_yaml()
    assert (
        "quantization"
        not in load(tmp_path, MINIMAL, "model={checkpoint: x, language: lora}").to_yaml()
    )


def test_recipes_that_compile_nothing_keep_their_fingerprint(tmp_path: Path) -> None:
    plain = load(tmp_path, MINIMAL, "model={checkpoint: x}")
    assert "compile:" not in plain.to_yaml()
    assert load(tmp_path, MINIMAL, "model={checkpoint: x, compile: false}").fingerprint == (
        plain.fingerprint
    )
    compiling = load(tmp_path, MINIMAL, "model={checkpoint: x, compile: true}")
    assert load_recipe(write(tmp_path, compiling.to_yaml())).model.compile
    quantized = "{checkpoint: x, quantization: nf4, language: lora, compile: true}"
    assert "compile: false" in problems(tmp_path, MINIMAL, f"model={quantized}")
