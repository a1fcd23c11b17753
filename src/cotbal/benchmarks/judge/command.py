"""`cotbal judge`: who judges, what it costs, and the scores that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cotbal.benchmarks.judge.asking import ask_all
from cotbal.benchmarks.judge.budget import NONE, REPLY, Budget, Tokens
from cotbal.benchmarks.judge.endpoint import Access, check_url
from cotbal.benchmarks.judge.judge import FIELDS, Ask, Judge, read_judge
from cotbal.benchmarks.judge.kept import Kept
from cotbal.benchmarks.judge.prompts import load_prompt, own_prompt
from cotbal.benchmarks.judge.result import Judged, judged, summary
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.answers import METRIC, Place
from cotbal.jobs.inputs import differences
from cotbal.jobs.rundir import locked, read_json, write_json

OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Wishes:
    """What the user says of the judge; None: as it was here before, otherwise the default."""

    model: str | None = None
    base_url: str | None = None
    prompt: Path | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    swap: bool | None = None
    change: bool = False


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked, and the tokens of it as expected and at the most."""

    requests: int
    settled: int
    expected: Tokens
    most: Tokens


@dataclass(frozen=True)
class Judging:
    """Answers, their judge, and what it would take."""

    place: Place
    judge: Judge
    asks: tuple[Ask, ...]
    estimate: Estimate
    spent: Tokens
    remarks: tuple[str, ...]


def plan_judging(place: Place, wishes: Wishes) -> Judging:
    """Who judges, which requests that takes, and what they cost; nothing is written.

    Raises:
        CotbalError: no model is named, or it is another judge than before.
    """
    judge = _judge(place, wishes)
    kept = Kept(place.judgements)
    asks = {ask.key: ask for each in place.sets for pair in each.pairs for ask in judge.asks(pair)}
    waiting = [ask for ask in asks.values() if not kept.settled(ask)]
    reply = kept.reply_length(judge.model) or REPLY
    expected = sum((ask.expected(reply) for ask in waiting), NONE)
    most = sum((ask.worst for ask in waiting), NONE)
    estimate = Estimate(len(waiting), len(asks) - len(waiting), expected, most)
    return Judging(
        place, judge, tuple(asks.values()), estimate, kept.used(judge.model), _remarks(place)
    )


def _judge(place: Place, wishes: Wishes) -> Judge:
    before = read_json(place.settings) if place.settings.exists() else None
    old = None if before is None else read_judge(before)
    model = wishes.model or (old.model if old else None)
    if model is None:
        raise CotbalError(
            "expected the name of a model to judge with; give --model, or set COTBAL_JUDGE_MODEL"
        )
    prompt = load_prompt(wishes.prompt) if wishes.prompt else old.prompt if old else own_prompt()
    judge = Judge(
        model=model,
        base_url=check_url(wishes.base_url or (old.base_url if old else OPENAI)),
        prompt=prompt,
        fields={**(old.fields if old else FIELDS), **wishes.fields},
        swap=wishes.swap if wishes.swap is not None else bool(old and old.swap),
    )
    if before is not None and not wishes.change:
        _refuse_another(place, before, judge.to_json())
    return judge


def _refuse_another(place: Place, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Marks of two judges cannot be compared."""
    changed = differences(*({**each, "base_url": ""} for each in (before, now)))
    if changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"{place.settings}: another judge than before:\n{listed}\nundo the change, or have"
            " everything judged again with --change-judge (what was replied before is kept)"
        )


def _remarks(place: Place) -> tuple[str, ...]:
    remarks = []
    blind = sum(pair.pictures and not pair.context for each in place.sets for pair in each.pairs)
    if blind:
        total = sum(len(each.pairs) for each in place.sets)
        remarks.append(
            f"{blind} of {total} answers are about a picture and have no `context`: the judge, who"
            " sees text alone, has nothing but the reference to go by"
        )
    if place.unfinished:
        remarks.append(
            f"{place.unfinished} planned runs are not done yet; their answers are left for the next"
            " time"
        )
    return tuple(remarks)


def carry_out(
    judging: Judging,
    access: Access,
    budget: Budget,
    concurrency: int,
    step: Callable[[int, int], None],
) -> dict[str, Judged]:
    """Ask what is not settled, and write the scores; name of the set -> its marks.

    Raises:
        RunError: not every request could be settled; what was judged is kept.
    """
    place, judge = judging.place, judging.judge
    with locked(place.lock):
        _settle(place, judge)
        kept = Kept(place.judgements)
        budget.spent = kept.used(
            judge.model
        )  # another command may have been at work since the plan was made
        ask_all(judging.asks, kept, access, budget, concurrency, step)
        found = {each.name: judged(each.pairs, judge, kept, each.name) for each in place.sets}
        for each in place.sets:
            content = read_json(each.scores) if each.scores.exists() else dict(each.head)
            content["metrics"][METRIC] = found[each.name].entry(judge)
            write_json(each.scores, content)
        write_json(place.directory / "summary.json", {"model": judge.model, "sets": summary(found)})
        return found


def _settle(place: Place, judge: Judge) -> None:
    """Note who judges; scores of another judge go first, so that no two ever stand side by side."""
    before = read_json(place.settings) if place.settings.exists() else judge.to_json()
    if differences(before, {**judge.to_json(), "base_url": before["base_url"]}):
        for each in place.sets:
            content = read_json(each.scores) if each.scores.exists() else {"metrics": {}}
            if content["metrics"].pop(METRIC, None) is not None:
                write_json(each.scores, content)
    write_json(place.settings, judge.to_json())
