"""The summary of a report, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.balance import Balance
from cotbal.report.comparison import BASELINE, OURS, Comparison
from cotbal.report.contents import Contents, RunContents
from cotbal.report.formatting import bracket, listed, number, plural
from cotbal.scores.interval import Interval, significance
from cotbal.weightings import method_label

NAMED = 6  # a sentence lists at most this many names


def summary(contents: Contents, comparison: Comparison) -> list[str]:
    """The most important results, one sentence each."""
    sentences = [_mixture(contents)]
    if contents.balance:
        sentences += [*_weights(contents.balance), *_flags(contents.balance)]
    else:
        sentences.append(_no_weights(contents))
    if contents.curve:
        trainings = _done(contents.curve, "training")
        sentences.append(f"Score against the fraction of the data was measured with {trainings}.")
    return [*sentences, *_finals(comparison)]


def _mixture(contents: Contents) -> str:
    balanced = contents.balanced
    action = "balanced" if contents.probes or contents.balance else "trained on"
    text = (
        f"{plural(len(balanced), 'task')} of the mixture {contents.name}"
        f" {'was' if len(balanced) == 1 else 'were'} {action}"
    )
    if contents.probes:
        text += f" from {_done(contents.probes, 'probe')}"
    rest = [task for task in contents.tasks if task not in balanced]
    if rest:
        verb = "has" if len(rest) == 1 else "have"
        text += f"; {listed(rest)} took no part and {verb} the mean weight, 1"
    return f"{text}."


def _done(runs: Sequence[RunContents], noun: str) -> str:
    done = sum(run.status == "done" for run in runs)
    rest = "" if done == len(runs) else f" of {len(runs)} that were planned"
    return f"{plural(done, noun)}{rest}"


def _no_weights(contents: Contents) -> str:
    if contents.curve and not contents.probes:
        return "There are no weights, because no probe was planned here."
    return "The weights are not known yet: not every probe is done."


def _weights(balance: Balance) -> list[str]:
    if not balance.has_intervals:
        return ["The weights have no intervals, because the table of scores holds no samples."]
    clear = [unit for unit in balance.units if balance.weight(unit).excludes(1)]
    unclear = [unit for unit in balance.units if unit not in clear]
    clear.sort(key=lambda unit: -balance.weights[unit])
    sentences = [
        _direction(balance, [unit for unit in clear if balance.weights[unit] > 1], "more"),
        _direction(balance, [unit for unit in clear if balance.weights[unit] < 1], "less"),
        _unclear(unclear),
    ]
    return [sentence for sentence in sentences if sentence]


def _unclear(units: Sequence[str]) -> str:
    if not units:
        return ""
    if len(units) == 1:
        return f"The weight of {units[0]} {significance(False, '1')}."
    names = listed(list(units)) if len(units) <= NAMED else f"{len(units)} tasks"
    return f"The weights of {names} {significance(False, '1', plural=True)}."


def _direction(balance: Balance, units: Sequence[str], direction: str) -> str:
    if not units:
        return ""
    names = [f"{unit} ({number(balance.weights[unit], 2)})" for unit in units]
    return f"By the weights, the tokens of {listed(names)} count {direction} than average."


def _flags(balance: Balance) -> list[str]:
    if not balance.flags:
        return []
    tasks = listed(list(dict.fromkeys(flag.task for flag in balance.flags)))
    return [f"There are flags for {tasks}: read the next section before you trust these numbers."]


def _finals(comparison: Comparison) -> list[str]:
    missing = [method_label(name) for name in (BASELINE, OURS) if name not in comparison.methods]
    if missing:
        return [f"Final models not trained yet: {listed(missing)}."]
    change = _change(comparison)
    if change is None:
        return []
    reference, seeds = method_label(comparison.reference or ""), len(comparison.seeds)
    scores = f"improvement over {reference}" if comparison.paired else "test scores"
    training = f"over {seeds} training seeds" if seeds > 1 else "one training seed"
    lost = ""
    if comparison.left_out:
        tasks = listed(list(comparison.left_out))
        lost = f" (without {tasks}, where {reference} did not score above 0)"
    return [
        "Against equal weights (EW), the final model trained with these weights (CoTBal) changed"
        f" the {scores} by {number(change.value, 2, signed=True)} % on average"
        f" {bracket(change, 2, signed=True)}, {training}; this change"
        f" {significance(change.excludes(), '0')}{lost}.",
        _rows(comparison),
    ]


def _rows(comparison: Comparison) -> str:
    changes = [row.differences[OURS] for row in comparison.rows if OURS in row.differences]
    better = sum(change.low > 0 for change in changes)
    worse = sum(change.high < 0 for change in changes)
    return (
        f"Of {plural(len(changes), 'test score')}, {better} clearly rose and {worse} clearly fell."
    )


def _change(comparison: Comparison) -> Interval | None:
    """Improvement of CoTBal minus that of EW, or over EW where EW is the reference."""
    if OURS in comparison.paired:
        return comparison.paired[OURS]
    return comparison.against[OURS].average if OURS in comparison.against else None
