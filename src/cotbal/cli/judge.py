"""`cotbal judge`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson
from cotbal.errors import CotbalError, RecipeError

if TYPE_CHECKING:
    from cotbal.benchmarks.judge.budget import Budget, Prices, Tokens
    from cotbal.benchmarks.judge.command import Judging, Options
    from cotbal.benchmarks.judge.result import Judged

RESERVED = {"model", "messages", "stream", "n"}  # fields of a request that are not the user's


@dataclass(frozen=True)
class JudgeOptions:
    """The judge: a model at an endpoint, and how it is asked."""

    model: Annotated[
        str | None,
        typer.Option(
            envvar="COTBAL_JUDGE_MODEL",
            help="Name of the model at the endpoint.",
            show_default=False,
        ),
    ] = None
    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="OPENAI_BASE_URL",
            help="Any OpenAI-compatible endpoint; that of OpenAI by default.",
        ),
    ] = None
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = (
        "OPENAI_API_KEY"
    )
    prompt: Annotated[Path | None, typer.Option(help="Your own prompt, see docs/judge.md.")] = None
    swap: Annotated[
        bool | None,
        typer.Option(
            "--swap/--no-swap", help="Judge every pair in both orders, and take the mean."
        ),
    ] = None
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="KEY=VALUE",
            help="A field of the request, such as temperature=0; null leaves it out.",
        ),
    ] = None

    def to_options(self, change_judge: bool) -> Options:
        """The same for `cotbal.benchmarks.judge`."""
        from cotbal.benchmarks.judge.command import Options

        fields = self._fields()
        return Options(self.model, self.base_url, self.prompt, fields, self.swap, change_judge)

    def _fields(self) -> dict[str, Any]:
        """The fields of a request that the user changes."""
        from cotbal.recipe.strict_yaml import apply_override

        fields: dict[str, Any] = {}
        for text in self.fields or ():
            try:
                apply_override(fields, text)
            except RecipeError:
                raise CotbalError(
                    f"--field: expected key=value such as temperature=0; found {text!r}",
                    "invalid-option",
                ) from None
        if reserved := RESERVED & set(fields):
            raise CotbalError(
                f"--field: {', '.join(sorted(reserved))} cannot be changed", "invalid-option"
            )
        return fields


@dataclass(frozen=True)
class CostOptions:
    """What requests cost, and how much of it is allowed."""

    price_in: Annotated[
        float | None, typer.Option(min=0, help="US dollars per million tokens read.")
    ] = None
    price_out: Annotated[
        float | None, typer.Option(min=0, help="US dollars per million tokens written.")
    ] = None
    max_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Cap on the total cost in this directory; needs both prices."),
    ] = None
    no_cap: Annotated[
        bool, typer.Option("--no-cap", help="Send requests without a cap on cost.")
    ] = False

    def prices(self) -> Prices:
        """Both prices, or zeros. Raises CotbalError where one is missing."""
        from cotbal.benchmarks.judge.budget import Prices

        if (self.price_in is None) != (self.price_out is None):
            raise CotbalError(
                "expected both prices, --price-in and --price-out; found one", "missing-option"
            )
        return Prices(self.price_in or 0.0, self.price_out or 0.0)

    def budget(self, judging: Judging) -> Budget:
        """What may be spent.

        Raises:
            CotbalError: requests are to be sent, and the user gave neither a cap above their
                expected cost nor --no-cap.
        """
        from cotbal.benchmarks.judge.budget import Budget

        if judging.estimate.requests:
            self._check_cap(self.prices().of(judging.spent + judging.estimate.expected))
        cap = math.inf if self.max_usd is None else self.max_usd
        return Budget(self.prices(), cap, judging.spent)

    def _check_cap(self, needed: float) -> None:
        if self.no_cap == (self.max_usd is not None):
            raise CotbalError(
                "expected a cap on what is spent, --max-usd with --price-in and --price-out, or"
                " --no-cap for an endpoint that costs nothing; found"
                f" {'both' if self.no_cap else 'neither'}",
                "conflicting-options" if self.no_cap else "missing-option",
            )
        if self.max_usd is None:
            return
        if self.price_in is None:
            raise CotbalError(
                "--max-usd: expected the prices of the endpoint too, --price-in and --price-out;"
                " found none",
                "missing-option",
            )
        if needed > self.max_usd:
            raise CotbalError(
                f"--max-usd {self.max_usd:g}: expected a cap above what judging will cost, about"
                f" {needed:.4f} with what was spent before; no request was sent",
                "over-budget",
            )


def judge(
    where: Annotated[
        Path,
        typer.Argument(
            help="A run directory, or a file of answers (JSON lines).", show_default=False
        ),
    ],
    options: JudgeOptions,
    cost: CostOptions,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests under way at the same time.")
    ] = 4,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that a reply may take.")
    ] = 120.0,
    change_judge: Annotated[
        bool,
        typer.Option(
            "--change-judge", help="Judge everything again, with another judge than before."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would cost, and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a language model rate answers beside their references: scores of the metric `judge`.

    Shows what it costs before the first request. Every reply is kept; rerun the command to resume.
    """
    from cotbal.benchmarks.judge import command
    from cotbal.benchmarks.judge.answers import find_answers
    from cotbal.benchmarks.judge.endpoint import Access, check_key
    from cotbal.benchmarks.judge.result import summary
    from cotbal.jobs import display

    prices = cost.prices()
    judging = command.plan_judging(find_answers(where), options.to_options(change_judge))
    if not as_json:
        show_estimate(judging, prices)
    elif dry_run:
        console.print_json(_estimate(judging, prices))
    if dry_run:
        return
    budget, key = cost.budget(judging), ""
    if judging.estimate.requests:
        key = check_key(os.environ.get(options.key_env), options.key_env)
    access = Access(judging.judge.base_url, key, timeout)
    with display.steps() as step:
        results = command.run_judging(
            judging, access, budget, concurrency, lambda done, total: step("judging", done, total)
        )
    usd = budget.cost if budget.prices.known else None
    if as_json:
        console.print_json({"sets": summary(results), "usd": usd})
    else:
        show_judged(results, usd)


def _estimate(judging: Judging, prices: Prices) -> dict[str, Any]:
    estimate: dict[str, Any] = {**vars(judging.estimate), "remarks": list(judging.remarks)}
    for name in ("expected", "most"):
        tokens = estimate[name]
        usd = prices.of(tokens) if prices.known else None
        estimate[name] = {"input": round(tokens.input), "output": round(tokens.output), "usd": usd}
    return estimate


def show_estimate(judging: Judging, prices: Prices) -> None:
    """Requests and their cost, before the first is sent."""
    from cotbal.report.formatting import plural

    estimate, judge = judging.estimate, judging.judge
    orders = ", both orders" if judge.swap else ""
    console.out.print(f"Judge: {escape(judge.model)} at {escape(judge.base_url)}{orders}")
    console.out.print(
        f"{plural(estimate.requests, 'request')} to send, {estimate.settled} settled already"
    )
    if estimate.requests:
        expected, most = _tokens(estimate.expected, prices), _tokens(estimate.most, prices)
        console.out.print(f"about {expected}; at most {most}", soft_wrap=True)
    if prices.known and judging.spent.input:
        console.out.print(f"spent here before, at these prices: ${prices.of(judging.spent):.4f}")
    console.warn(judging.remarks)


def _tokens(tokens: Tokens, prices: Prices) -> str:
    text = f"{tokens.input:.0f} tokens read and {tokens.output:.0f} written"
    return f"{text}, ${prices.of(tokens):.4f}" if prices.known else text


def show_judged(results: Mapping[str, Judged], usd: float | None) -> None:
    """Relative scores, by category where there are several."""
    from cotbal.report.formatting import plural

    table = console.table(
        "answers", "category", "pairs", "left out", "rating", "of reference", "relative score"
    )
    left_out = 0
    for name, judged in results.items():
        categories = judged.categories()
        left_out += categories[-1].left_out
        for c in categories:
            ratings = (f"{c.answers:.2f}", f"{c.references:.2f}", f"{c.score:.1f}")
            table.add_row(escape(name), escape(c.name), str(c.pairs), str(c.left_out), *ratings)
    console.show(table)
    if left_out:
        text = (
            f"{plural(left_out, 'answer')} without ratings, left out of the scores; the ids are"
            " `left_out` in the files of scores"
        )
        console.warn([text])
    if usd is not None:
        console.out.print(f"spent here in all: ${usd:.4f}")
