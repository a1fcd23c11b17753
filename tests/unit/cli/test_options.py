"""Options that several commands share are written once, in options classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from cotbal.cli.app import app
from cotbal.cli.options import JobOptions, RecipeArguments, StudyOptions, Without, expanded
from cotbal.jobs.display import LiveDisplay
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import Resources

JOB = ("on", "workers", "threads", "report_to", "address", "keep_checkpoints", "restart_changed")


@dataclass(frozen=True)
class Drawing:
    name: Annotated[str, typer.Argument()]
    ink: Annotated[str, typer.Option("--ink", help="Colour of the ink.")] = "black"
    size: Annotated[int, typer.Option(min=1)] = 3


def called(command: Any, *words: str) -> None:
    """Run a command as Typer does."""
    program = typer.Typer(add_completion=False)
    program.command()(expanded(command))
    typer.main.get_command(program)(list(words), standalone_mode=False)


def parameters(command: Any) -> dict[str, Any]:
    program = typer.Typer(add_completion=False)
    program.command()(expanded(command))
    return {p.name: p for p in typer.main.get_command(program).params if p.name != "help"}


def test_a_command_gets_one_object_of_each_options_class() -> None:
    calls = []

    def draw(first: int, drawing: Drawing, *, loud: bool = False) -> None:
        calls.append((first, drawing, loud))

    called(draw, "7", "cat")
    called(draw, "7", "cat", "--ink", "red", "--size", "5", "--loud")
    assert calls == [(7, Drawing("cat"), False), (7, Drawing("cat", "red", 5), True)]


def test_fields_take_the_place_of_the_class_with_help_and_defaults() -> None:
    def draw(first: int, drawing: Drawing, *, loud: bool = False) -> None: ...

    shown = parameters(draw)
    assert list(shown) == ["first", "name", "ink", "size", "loud"]
    assert (shown["ink"].opts, shown["ink"].help, shown["ink"].default) == (
        ["--ink"],
        "Colour of the ink.",
        "black",
    )
    assert shown["name"].required


def test_a_parameter_may_have_the_name_of_a_field() -> None:
    calls = []

    def draw(name: Drawing) -> None:
        calls.append(name)

    called(draw, "cat")
    assert calls == [Drawing("cat")]


def test_fields_that_are_left_out_keep_their_defaults() -> None:
    calls = []

    def draw(drawing: Annotated[Drawing, Without("ink", "size")]) -> None:
        calls.append(drawing)

    called(draw, "cat")
    assert calls == [Drawing("cat")]
    assert list(parameters(draw)) == ["name"]


def test_a_field_that_does_not_exist_cannot_be_left_out() -> None:
    def draw(drawing: Annotated[Drawing, Without("paper")]) -> None: ...

    with pytest.raises(ValueError, match="paper"):
        expanded(draw)


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ("balance", ()),
        ("train", ("keep_checkpoints",)),
        ("run", ()),
        ("compare", ()),
        ("ablate", ()),
        ("curve", ("keep_checkpoints",)),
        ("response", ("keep_checkpoints",)),
        ("submission", ("report_to", "keep_checkpoints")),
        ("zeroshot", ("report_to", "address", "keep_checkpoints")),
    ],
)
def test_commands_that_train_offer_the_same_options_in_the_same_order(
    command: str, left_out: tuple[str, ...]
) -> None:
    offered = [p.name for p in typer.main.get_command(app).commands[command].params]  # type: ignore[attr-defined]
    expected = [name for name in JOB if name not in left_out]
    first = offered.index("on")
    assert offered[first : first + len(expected)] == expected
    assert not set(left_out) & set(offered)


def test_how_the_runs_of_a_command_execute() -> None:
    job = JobOptions("inline", 2, 3, ["tensorboard", "wandb", "tensorboard"], None, True, True)
    trackers = ("tensorboard", "wandb")
    expected = Options("inline", Resources(2, 3), True, True, LiveDisplay, trackers)
    assert job.to_options() == expected
    assert JobOptions("ray", address="a:1").to_options().resources == Resources(address="a:1")


def test_seeds() -> None:
    assert StudyOptions("0, 2,1").seed_numbers == (0, 2, 1)


def test_overrides_change_the_recipe(recipe_path: Path) -> None:
    assert RecipeArguments(recipe_path).load().file.optimization.epochs == 1
    changed = RecipeArguments(recipe_path, ["optimization.epochs=2"])
    assert changed.load().file.optimization.epochs == 2
