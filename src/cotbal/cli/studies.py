"""The verbs that compare: `compare`, `ablate` and `curve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotbal.cli.jobs import options_of
from cotbal.cli.options import (
    Address,
    Keep,
    On,
    Out,
    Overrides,
    RecipePath,
    ReportTo,
    Restart,
    Threads,
    Workers,
)
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.jobs.compare import Study
    from cotbal.jobs.execute import Options
    from cotbal.jobs.rundir import RunDir

Seeds = Annotated[
    str,
    typer.Option(help="Training seeds, separated by commas; every model is trained once a seed."),
]
Dry = Annotated[bool, typer.Option("--dry-run", help="Show every run and its cost, and stop.")]


def compare(
    recipe: RecipePath,
    overrides: Overrides = None,
    methods: Annotated[
        str,
        typer.Option(
            help=(
                "Methods separated by commas: stl, ew, tla, rlw, dwa, igbv1, cotbal, or dotted"
                " paths of your own modules."
            )
        ),
    ] = "stl,ew,tla,rlw,dwa,igbv1,cotbal",
    seeds: Seeds = "0",
    out: Out = None,
    dry_run: Dry = False,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    report_to: ReportTo = None,
    address: Address = None,
    keep_checkpoints: Keep = False,
    restart_changed: Restart = False,
) -> None:
    """Train and test several methods on the same seeds, and report their
    differences with intervals."""
    from cotbal.jobs.compare import method_names, plan_comparison
    from cotbal.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    chosen = method_names([name for name in methods.split(",") if name.strip()])
    study = plan_comparison(loaded, _root(out, loaded.name), chosen, _seeds(seeds))
    options = options_of(
        on, workers, threads, keep_checkpoints, restart_changed, report_to, address
    )
    _run(study, options, dry_run)


def ablate(
    recipe: RecipePath,
    overrides: Overrides = None,
    temperatures: Annotated[
        str, typer.Option(help="Temperatures, separated by commas.")
    ] = "0.25,0.5,1",
    precise: Annotated[
        bool,
        typer.Option(
            help="Also the other kind of difficulty (Eq. 17); needs models of one task alone."
        ),
    ] = True,
    seeds: Seeds = "0",
    out: Out = None,
    dry_run: Dry = False,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    keep_checkpoints: Keep = False,
    report_to: ReportTo = None,
    address: Address = None,
    restart_changed: Restart = False,
) -> None:
    """The paper's Table 5: parts of the weights alone, temperatures, real and precise
    difficulty."""
    from cotbal.jobs.compare import plan_ablation
    from cotbal.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    taus = _numbers(temperatures, "--temperatures")
    study = plan_ablation(loaded, _root(out, loaded.name), taus, precise, _seeds(seeds))
    options = options_of(
        on, workers, threads, keep_checkpoints, restart_changed, report_to, address
    )
    _run(study, options, dry_run)


def curve(
    recipe: RecipePath,
    overrides: Overrides = None,
    fractions: Annotated[
        str, typer.Option(help="Shares of every task's training records, separated by commas.")
    ] = "1/32,1/16,1/8,1/4,1/2,1",
    alone: Annotated[
        bool, typer.Option("--alone", help="Also every task alone at every fraction.")
    ] = False,
    seeds: Seeds = "0",
    out: Out = None,
    dry_run: Dry = False,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    report_to: ReportTo = None,
    address: Address = None,
    restart_changed: Restart = False,
) -> None:
    """The paper's Fig. 1b: validation score of every task against the fraction of its training
    data, with equal weights.
    """
    from cotbal.cli import console
    from cotbal.jobs.curve import fractions_of, plan_curve, run_curve
    from cotbal.recipe.recipe import load_recipe
    from cotbal.report import write_curve, write_report

    loaded = load_recipe(recipe, overrides or ())
    chosen, options = (
        fractions_of(fractions),
        options_of(on, workers, threads, False, restart_changed, report_to, address),
    )
    prepared = plan_curve(loaded, _root(out, loaded.name), chosen, alone, _seeds(seeds))
    console.show_plan(prepared.plan, prepared.warnings)
    if dry_run:
        return
    run_curve(prepared, options)
    console.show_curve(write_curve(prepared.root.root))
    print(f"\nReport: {write_report(prepared.root.root)}")


def _root(out: Path | None, name: str) -> RunDir:
    from cotbal.jobs.rundir import RunDir

    return RunDir(out or Path("runs") / name)


def _run(study: Study, options: Options, dry_run: bool) -> None:
    from cotbal.cli import console
    from cotbal.jobs.compare import run_comparison
    from cotbal.report import write_comparison, write_report

    console.show_plan(study.prepared.plan, study.prepared.warnings)
    if dry_run:
        return
    run_comparison(study, options)
    console.show_comparison(write_comparison(study.prepared.root.root))
    print(f"\nReport: {write_report(study.prepared.root.root)}")


def _seeds(text: str) -> tuple[int, ...]:
    found = _numbers(text, "--seeds")
    if any(number != int(number) for number in found):
        raise CotbalError(f"--seeds: expected whole numbers, separated by commas; found {text!r}")
    return tuple(int(number) for number in found)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if (
        not found
        or not all(0 <= number < float("inf") for number in found)
        or len(set(found)) < len(found)
    ):
        raise CotbalError(
            f"{option}: expected different numbers, separated by commas; found {text!r}"
        )
    return found
