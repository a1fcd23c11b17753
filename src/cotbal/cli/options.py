"""Arguments and options that several commands share, each written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.jobs.execute import Options
    from cotbal.jobs.plan import Prepared
    from cotbal.jobs.rundir import RunDir
    from cotbal.recipe.recipe import Recipe

RunDirectory = Annotated[Path, typer.Argument(help="A run directory.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Run directory; `runs/<recipe name>` by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of text.")]
Ratios = Annotated[
    Path | None,
    typer.Option(
        "--ratios",
        help=(
            "File of weights, such as that of `cotbal steer`: sample the tasks in proportion to"
            " them instead of weighting the loss."
        ),
    ),
]
On = Annotated[
    str, typer.Option("--on", help="Where the runs execute: processes, slurm, ray, inline.")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Runs at the same time; one per device by default."),
]


@dataclass(frozen=True)
class RecipeArguments:
    """A recipe and changes to it."""

    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the recipe, such as optimization.epochs=2.", show_default=False
        ),
    ] = None

    def load(self, *changes: str) -> Recipe:
        """The recipe with its changes, then these."""
        from cotbal.recipe.recipe import load_recipe

        return load_recipe(self.recipe, [*(self.overrides or ()), *changes])

    def plan(
        self, out: Path | None, weightings: Sequence[str], ratios: Path | None = None
    ) -> Prepared:
        """Read the recipe, open its data and plan its probes and final runs."""
        from cotbal.jobs import pipeline

        recipe = self.load()
        return pipeline.plan(recipe, run_directory(out, recipe), weightings, ratios)

    def plan_trials(self, out: Path | None) -> Prepared:
        """Read the recipe, open its data and plan its trials."""
        from cotbal.jobs import response

        recipe = self.load()
        return response.plan_trials(recipe, run_directory(out, recipe))


@dataclass(frozen=True)
class JobOptions:
    """How the runs of a command execute; nothing here changes a result."""

    on: On = "processes"
    workers: Workers = None
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="CPU threads per run; the cores are shared by default."
        ),
    ] = None
    report_to: Annotated[
        list[str] | None,
        typer.Option(
            "--report-to",
            help=(
                "Send losses and weights to tensorboard, wandb or trackio while runs train; repeat"
                " the option for several."
            ),
        ),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help=(
                "Head of a Ray cluster, host:port; by default RAY_ADDRESS, or a new cluster on this"
                " machine."
            ),
        ),
    ] = None
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Keep the trained models of the probes.")
    ] = False
    restart_changed: Annotated[
        bool,
        typer.Option(
            "--restart-changed",
            help="Archive runs that no longer fit the recipe, and rerun them.",
        ),
    ] = False

    def to_options(self) -> Options:
        """The same for `cotbal.jobs`, with a live display.

        Raises:
            CotbalError: an address, for an executor that takes none.
        """
        from cotbal.jobs.display import LiveDisplay
        from cotbal.jobs.execute import Options
        from cotbal.jobs.executors import Resources

        if self.address and self.on in ("processes", "inline", "slurm"):
            raise CotbalError(
                f"--address: only --on ray takes one; found --on {self.on}", "conflicting-options"
            )
        return Options(
            self.on,
            Resources(self.workers, self.threads, address=self.address),
            self.keep_checkpoints,
            self.restart_changed,
            LiveDisplay,
            tuple(dict.fromkeys(self.report_to or ())),
        )


@dataclass(frozen=True)
class StudyOptions:
    """What a study of several trainings repeats, and where its runs are kept."""

    seeds: Annotated[
        str,
        typer.Option(
            help="Training seeds, separated by commas; every model is trained once per seed."
        ),
    ] = "0"
    out: Out = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every run and its cost, and stop.")
    ] = False

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds. Raises CotbalError where they are not different whole numbers."""
        from cotbal.balance.settings import LARGEST_SEED

        numbers = different_numbers(self.seeds, "--seeds")
        if any(number != int(number) or number > LARGEST_SEED for number in numbers):
            raise CotbalError(
                f"--seeds: expected whole numbers up to {LARGEST_SEED}, separated by commas; found"
                f" {self.seeds!r}",
                "invalid-option",
            )
        return tuple(int(number) for number in numbers)


def run_directory(out: Path | None, recipe: Recipe) -> RunDir:
    """The run directory that the user names, or that of the recipe's name."""
    from cotbal.jobs.rundir import RunDir

    return RunDir(out or Path("runs") / recipe.name)


def different_numbers(text: str, option: str) -> tuple[float, ...]:
    """Different numbers of at least 0, from a list with commas.

    Raises:
        CotbalError: the option holds anything else.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    valid = all(0 <= number < float("inf") for number in numbers)
    if not numbers or not valid or len(set(numbers)) < len(numbers):
        raise CotbalError(
            f"{option}: expected different numbers, separated by commas; found {text!r}",
            "invalid-option",
        )
    return numbers


def listed(names: str) -> list[str]:
    """Names from a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


class Without:
    """Marks an options class, `Annotated[JobOptions, Without("address")]`: the command does not
    offer these fields, and they keep their defaults.
    """

    def __init__(self, *names: str) -> None:
        self.names = names


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer reads it: every field of an options class becomes a parameter.

    A parameter whose type is one of the dataclasses above is replaced by the fields of that class,
    in their order. When the command is called, it gets one object of the class.
    """
    parameters: list[Parameter] = []
    classes: dict[str, tuple[type, list[str]]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        options = _class_of(parameter.annotation)
        if options is None:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        expanded_fields = _parameters(options, parameter.annotation)
        classes[parameter.name] = options, [field.name for field in expanded_fields]
        parameters += expanded_fields

    @functools.wraps(command)
    def call(**values: Any) -> None:
        for name, (options, names) in classes.items():
            values[name] = options(**{field: values.pop(field) for field in names})
        command(**values)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _class_of(annotation: Any) -> type | None:
    """The options class of a parameter, if it has one."""
    kind = getattr(annotation, "__origin__", annotation)
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _parameters(options: type, annotation: Any) -> list[Parameter]:
    """The fields of an options class as parameters."""
    marks = getattr(annotation, "__metadata__", ())
    left_out = [name for mark in marks if isinstance(mark, Without) for name in mark.names]
    hints = _hints(options)
    if unknown := set(left_out) - set(hints):
        raise ValueError(f"{options.__name__} has no {', '.join(sorted(unknown))} to leave out")
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)
        if field.name not in left_out
    ]


@functools.cache
def _hints(options: type) -> dict[str, Any]:
    return get_type_hints(options, include_extras=True)
