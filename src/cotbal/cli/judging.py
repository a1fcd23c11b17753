"""The verb that asks a judge, and may cost money: `judge`."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cotbal.cli.options import AsJson
from cotbal.errors import CotbalError, RecipeError

if TYPE_CHECKING:
    from cotbal.benchmarks.judge.budget import Budget, Prices
    from cotbal.benchmarks.judge.command import Judging
    from cotbal.benchmarks.judge.endpoint import Access


Where = Annotated[
    Path,
    typer.Argument(help="A run directory, or a file of answers (JSON lines).", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(
        envvar="COTBAL_JUDGE_MODEL", help="Name of the model at the endpoint.", show_default=False
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="OPENAI_BASE_URL", help="Any OpenAI-compatible endpoint; that of OpenAI by default."
    ),
]
KeyEnv = Annotated[str, typer.Option(help="Environment variable that holds the key.")]
PromptFile = Annotated[Path | None, typer.Option(help="Your own prompt, see docs/judge.md.")]
Swap = Annotated[
    bool | None,
    typer.Option("--swap/--no-swap", help="Judge every pair in both orders, and take the mean."),
]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="KEY=VALUE",
        help="A field of the request, such as temperature=0; null leaves it out.",
    ),
]
PriceIn = Annotated[float | None, typer.Option(min=0, help="US dollars per million tokens read.")]
PriceOut = Annotated[
    float | None, typer.Option(min=0, help="US dollars per million tokens written.")
]
MaxUsd = Annotated[
    float | None, typer.Option(min=0, help="Cap on all that is spent here; needs both prices.")
]
NoCap = Annotated[bool, typer.Option("--no-cap", help="Request without a cap.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at the same time.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that a reply may take.")]
Change = Annotated[
    bool,
    typer.Option(
        "--change-judge", help="Have everything judged again, by another judge than before."
    ),
]
Dry = Annotated[bool, typer.Option("--dry-run", help="Show what it would cost, and stop.")]


def judge(
    where: Where,
    model: Model = None,
    base_url: Url = None,
    key_env: KeyEnv = "OPENAI_API_KEY",
    prompt: PromptFile = None,
    swap: Swap = None,
    fields: Fields = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    max_usd: MaxUsd = None,
    no_cap: NoCap = False,
    concurrency: Concurrency = 4,
    timeout: Timeout = 120.0,
    change_judge: Change = False,
    dry_run: Dry = False,
    as_json: AsJson = False,
) -> None:
    """Have a language model rate answers beside their references: scores of the metric `judge`.

    Shows what it costs before the first request. Every reply is kept; rerun the command to resume.
    """
    from cotbal.benchmarks.judge.answers import find_answers
    from cotbal.benchmarks.judge.command import Options, plan_judging
    from cotbal.benchmarks.judge.endpoint import Access, check_key
    from cotbal.cli import console

    prices = _prices(price_in, price_out)
    options = Options(model, base_url, prompt, _fields(fields or ()), swap, change_judge)
    judging = plan_judging(find_answers(where), options)
    if not as_json:
        console.show_estimate(judging, prices)
    elif dry_run:
        print(json.dumps(_estimate(judging, prices), indent=1))
    if dry_run:
        return
    budget = _budget(judging, prices, max_usd, no_cap)
    key = check_key(os.environ.get(key_env), key_env) if judging.estimate.requests else ""
    _run(judging, Access(judging.judge.base_url, key, timeout), budget, concurrency, as_json)


def _run(judging: Judging, access: Access, budget: Budget, concurrency: int, as_json: bool) -> None:
    from cotbal.benchmarks.judge.command import run_judging
    from cotbal.benchmarks.judge.result import summary
    from cotbal.cli import console
    from cotbal.jobs import display

    with display.steps() as step:
        results = run_judging(
            judging, access, budget, concurrency, lambda done, total: step("judging", done, total)
        )
    usd = budget.cost if budget.prices.known else None
    if as_json:
        print(json.dumps({"sets": summary(results), "usd": usd}, indent=1))
    else:
        console.show_judged(results, usd)


def _fields(texts: list[str] | tuple[str, ...]) -> dict[str, Any]:
    from cotbal.recipe.strict_yaml import apply_override

    fields: dict[str, Any] = {}
    for text in texts:
        try:
            apply_override(fields, text)
        except RecipeError:
            raise CotbalError(
                f"--field: expected key=value such as temperature=0; found {text!r}"
            ) from None
    reserved = {"model", "messages", "stream", "n"} & set(fields)
    if reserved:
        raise CotbalError(f"--field: {', '.join(sorted(reserved))} cannot be changed")
    return fields


def _prices(price_in: float | None, price_out: float | None) -> Prices | None:
    from cotbal.benchmarks.judge.budget import Prices

    if price_in is None and price_out is None:
        return None
    if price_in is None or price_out is None:
        raise CotbalError("expected both prices, --price-in and --price-out; found one")
    return Prices(price_in, price_out)


def _estimate(judging: Judging, prices: Prices | None) -> dict[str, Any]:
    estimate: dict[str, Any] = {**vars(judging.estimate), "remarks": list(judging.remarks)}
    for name in ("expected", "most"):
        tokens = estimate[name]
        usd = None if prices is None else prices.of(tokens)
        estimate[name] = {"input": round(tokens.input), "output": round(tokens.output), "usd": usd}
    return estimate


def _budget(judging: Judging, prices: Prices | None, max_usd: float | None, no_cap: bool) -> Budget:
    """What may be spent. The user must give a cap, or --no-cap, before a request is sent."""
    from cotbal.benchmarks.judge.budget import Budget, Prices

    if not judging.estimate.requests:
        return Budget(prices or Prices(), spent=judging.spent)
    if no_cap == (max_usd is not None):
        raise CotbalError(
            "expected a cap on what is spent, --max-usd with --price-in and --price-out, or"
            f" --no-cap for an endpoint that costs nothing; found {'both' if no_cap else 'neither'}"
        )
    if no_cap or max_usd is None:
        return Budget(prices or Prices(), math.inf, judging.spent)
    if prices is None:
        raise CotbalError(
            "--max-usd: expected the prices of the endpoint too, --price-in and --price-out; found"
            " none"
        )
    needed = prices.of(judging.spent + judging.estimate.expected)
    if needed > max_usd:
        raise CotbalError(
            f"--max-usd {max_usd:g}: expected a cap above what judging will cost, about"
            f" {needed:.4f} with what was spent before; nothing was asked"
        )
    return Budget(prices, max_usd, judging.spent)
