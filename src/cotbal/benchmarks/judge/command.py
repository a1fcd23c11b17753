"""`cotbal judge`: the judge, what it costs, and the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cotbal.benchmarks.judge.answers import METRIC, Answers
from cotbal.benchmarks.judge.budget import NONE, REPLY, Budget, Tokens
from cotbal.benchmarks.judge.endpoint import Access, check_url
from cotbal.benchmarks.judge.judge import FIELDS, Judge, Request, read_judge
from cotbal.benchmarks.judge.prompts import default_prompt, load_prompt
from cotbal.benchmarks.judge.replies import Replies
from cotbal.benchmarks.judge.result import Judged, judged, summary
from cotbal.benchmarks.judge.session import Session, Step
from cotbal.data.files import locked, read_json, write_json, write_sealed
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.inputs import differences

OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Options:
    """Options of the judge; None: as in an earlier command on these answers, otherwise the default.

    Attributes:
        change: whether it may be another judge than in an earlier command.
    """

    model: str | None = None
    base_url: str | None = None
    prompt: Path | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    swap: bool | None = None
    change: bool = False


@dataclass(frozen=True)
class Estimate:
    """Number of requests to send, of settled ones, and the tokens of the former, as expected and at
    most.
    """

    requests: int
    settled: int
    expected: Tokens
    most: Tokens


@dataclass(frozen=True)
class Judging:
    """Answers, their judge, all its requests, and what they cost."""

    answers: Answers
    judge: Judge
    requests: tuple[Request, ...]
    estimate: Estimate
    spent: Tokens
    remarks: tuple[str, ...]


def plan_judging(answers: Answers, options: Options) -> Judging:
    """The judge, its requests, and what they cost; writes nothing.

    Raises:
        CotbalError: no model is named, or it is another judge than before.
    """
    judge = _judge(answers, options)
    replies = Replies(answers.judgements)
    requests: dict[str, Request] = {}
    for pair in answers.pairs:
        requests |= {request.key: request for request in judge.requests(pair)}
    waiting = [request for request in requests.values() if not replies.settled(request)]
    length = replies.reply_length(judge.model) or REPLY
    expected = sum((request.expected(length) for request in waiting), NONE)
    most = sum((request.worst for request in waiting), NONE)
    estimate = Estimate(len(waiting), len(requests) - len(waiting), expected, most)
    spent = replies.used(judge.model)
    return Judging(answers, judge, tuple(requests.values()), estimate, spent, _remarks(answers))


def _judge(answers: Answers, options: Options) -> Judge:
    if not answers.settings.exists():
        return _apply(options, Judge("", OPENAI, default_prompt(), FIELDS, swap=False))
    before = read_judge(read_json(answers.settings))
    judge = _apply(options, before)
    if not options.change:
        _demand_same(answers.settings, before, judge)
    return judge


def _apply(options: Options, judge: Judge) -> Judge:
    """The judge with the options that the user gives."""
    model = options.model or judge.model
    if not model:
        raise CotbalError(
            "expected the name of a model to judge with; give --model, or set COTBAL_JUDGE_MODEL",
            "invalid-option",
        )
    return Judge(
        model=model,
        base_url=check_url(options.base_url or judge.base_url),
        prompt=load_prompt(options.prompt) if options.prompt else judge.prompt,
        fields={**judge.fields, **options.fields},
        swap=judge.swap if options.swap is None else options.swap,
    )


def _demand_same(settings: Path, before: Judge, now: Judge) -> None:
    """Ratings of two judges cannot be compared."""
    changed = _changes(before, now)
    if changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"{settings}: another judge than before:\n{listed}\nundo the change, or have"
            " everything judged again with --change-judge (earlier replies are kept)",
            "changed-settings",
        )


def _changes(before: Judge, now: Judge) -> list[str]:
    """What differs between two judges; the address does not count."""
    return differences(
        {**before.to_json(), "base_url": ""},
        {**now.to_json(), "base_url": ""},
    )


def _remarks(answers: Answers) -> tuple[str, ...]:
    remarks = []
    blind = sum(pair.has_images and not pair.context for pair in answers.pairs)
    if blind:
        remarks.append(
            f"{blind} of {len(answers.pairs)} answers are about an image and have no `context`: the"
            " judge, who sees text alone, can only compare with the reference"
        )
    if answers.unfinished:
        remarks.append(
            f"{answers.unfinished} planned runs are not done yet; rerun the command to judge their"
            " answers"
        )
    return tuple(remarks)


def run_judging(
    judging: Judging, access: Access, budget: Budget, concurrency: int, step: Step
) -> dict[str, Judged]:
    """Send the open requests and write the scores; returns name of the set -> its ratings.

    Raises:
        RunError: not every request could be settled; what was judged is kept.
    """
    answers, judge = judging.answers, judging.judge
    with locked(answers.lock):
        _record_judge(answers, judge)
        replies = Replies(answers.judgements)
        budget.spent = replies.used(judge.model)  # another command may have run since the plan
        Session(access, replies, budget, concurrency, step).settle(judging.requests)
        results = {}
        for s in answers.sets:
            results[s.name] = judged(s.pairs, judge, replies, s.name)
        for of_set in answers.sets:
            content = of_set.read_scores()
            content["metrics"][METRIC] = results[of_set.name].entry(judge)
            write_sealed(of_set.scores, content)
        write_json(answers.summary, {"model": judge.model, "sets": summary(results)})
        return results


def _record_judge(answers: Answers, judge: Judge) -> None:
    """Write the settings; before that, remove scores of another judge, so that scores of two judges
    are never side by side.
    """
    if answers.settings.exists() and _changes(read_judge(read_json(answers.settings)), judge):
        for of_set in answers.sets:
            content = of_set.read_scores()
            if content["metrics"].pop(METRIC, None) is not None:
                write_sealed(of_set.scores, content)
    write_json(answers.settings, judge.to_json())
