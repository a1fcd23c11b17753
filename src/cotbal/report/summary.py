"""The summary of a report, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cotbal.balance import Balance
from cotbal.balance.result import NOT_MEASURABLE
from cotbal.report.comparison import BASELINE, OURS, Comparison
from cotbal.report.contents import Contents, RunContents
from cotbal.report.crowds import NAMED, some
from cotbal.report.formatting import bracket, listed, number, plural
from cotbal.report.model_tables import noise_range
from cotbal.report.response_views import summary_sentences
from cotbal.report.responses import Measured
from cotbal.report.tables import LEARN_FROM_PROBES
from cotbal.scores.interval import SAMPLING_ONLY, Interval, hold_training, significance
from cotbal.weightings import method_label

SAME_TRAINING = "All weights are 1, so CoTBal and equal weights (EW) are the same training."
NO_INTERVALS = "The weights have no intervals, because the table of scores holds no samples."
NO_PROBES = "There are no weights, because no probe was planned here."


def summary(
    contents: Contents, comparison: Comparison, measured: Measured | None = None
) -> list[str]:
    """The most important results, one sentence each."""
    effects = summary_sentences(measured) if measured else []
    if not contents.tasks:  # a table of trials alone
        return effects
    sentences = [_mixture(contents)]
    if contents.balance:
        sentences += [*_weights(contents.balance), *_flags(contents.balance)]
    else:
        sentences.append(_no_weights(contents))
    if contents.curve:
        trainings = _done(contents.curve, "training")
        sentences.append(f"Score against the fraction of the data was measured with {trainings}.")
    return [*sentences, *effects, *_finals(comparison, contents.balance)]


def _mixture(contents: Contents) -> str:
    balanced = contents.balanced
    tasks = plural(len(balanced), "task")
    verb = "was" if len(balanced) == 1 else "were"
    action = "balanced" if contents.probes or contents.balance else "trained on"
    text = f"{tasks} of the mixture {contents.name} {verb} {action}"
    if contents.probes:
        probes = _done(contents.probes, "probe")
        text += f" from {probes}"
    evaluated = contents.only_evaluated
    rest = [task for task in contents.tasks if task not in (*balanced, *evaluated)]
    if rest:
        verb = "has" if len(rest) == 1 else "have"
        text += f"; {some(rest)} took no part and {verb} the mean weight, 1"
    if evaluated:
        verb = "was" if len(evaluated) == 1 else "were"
        text += f"; {some(evaluated)} {verb} only evaluated"
    return f"{text}."


def _done(runs: Sequence[RunContents], noun: str) -> str:
    """How many of these runs are done, in words."""
    planned = len(runs)
    done = sum(run.status == "done" for run in runs)
    text = plural(done, noun)
    if done < planned:
        text += f" of {planned} that were planned"
    return text


def _no_weights(contents: Contents) -> str:
    if contents.runs and not contents.probes:
        return NO_PROBES
    return "The weights are not known yet: not every probe is done."


def _weights(balance: Balance) -> list[str]:
    if not balance.measurable:
        return [_not_measurable(balance)]
    if not balance.has_intervals:
        return [NO_INTERVALS]
    weights = dict(zip(balance.units, balance.part("all"), strict=True))
    if not hold_training(weights.values()):
        return [_without_training_noise(balance.weights)]
    return _verdicts(weights)


def _verdicts(weights: Mapping[str, Interval]) -> list[str]:
    """Which units get more and which less than the mean weight, the largest weight first."""
    more: list[str] = []
    less: list[str] = []
    unclear: list[str] = []
    for unit, weight in sorted(weights.items(), key=lambda item: -item[1].value):
        if not weight.differs(1):
            unclear.append(unit)
            continue
        names = more if weight.value > 1 else less
        names.append(f"{unit} ({number(weight.value, 2)})")
    sentences = []
    for names, direction in ((more, "more"), (less, "less")):
        if names:
            units = some(names)
            sentences.append(
                f"By the weights, the tokens of {units} count {direction} than average."
            )
    if unclear:
        sentences.append(_unclear(unclear))
    return sentences


def _not_measurable(balance: Balance) -> str:
    shares = []
    for name, share in balance.identified.items():
        shares.append(f"{100 * share:.0f} % of the {name}")
    known = " and ".join(shares)
    return (
        f"The weights are {NOT_MEASURABLE}, which is why all are 1. Only"
        f" {known} could be identified. More data in the minis, another model or other metrics may"
        " change that."
    )


def _without_training_noise(weights: Mapping[str, float]) -> str:
    lowest = min(weights, key=weights.__getitem__)
    highest = max(weights, key=weights.__getitem__)
    low = number(weights[lowest], 2)
    high = number(weights[highest], 2)
    return (
        f"The weights go from {low} ({lowest}) to {high} ({highest})."
        f" Their intervals hold the {SAMPLING_ONLY}. {LEARN_FROM_PROBES}"
    )


def _unclear(units: Sequence[str]) -> str:
    """That the weights of these units do not differ from the mean weight."""
    if len(units) == 1:
        verdict = significance(False, "1")
        return f"The weight of {units[0]} {verdict}."
    names = listed(units) if len(units) <= NAMED else f"{len(units)} tasks"
    verdict = significance(False, "1", plural=True)
    return f"The weights of {names} {verdict}."


def _flags(balance: Balance) -> list[str]:
    if not balance.flags:
        return []
    flagged = dict.fromkeys(flag.task for flag in balance.flags)
    tasks = some(list(flagged))
    return [f"There are flags for {tasks}: read the next section before you trust these numbers."]


def _missing(methods: Sequence[str], balance: Balance | None) -> list[str]:
    """Nobody asked for CoTBal where its weights were not computed."""
    return [f"Final models not trained yet: {listed(methods)}."] if balance else []


def _finals(comparison: Comparison, balance: Balance | None) -> list[str]:
    missing = [method_label(name) for name in (BASELINE, OURS) if name not in comparison.methods]
    if missing:
        return _missing(missing, balance)
    if balance and _all_equal(balance):
        return [SAME_TRAINING]
    change = _change(comparison)
    if change is None:
        return []
    reference = method_label(comparison.reference or "")
    scores = f"improvement over {reference}" if comparison.paired else "test scores"
    left_out = ""
    if comparison.left_out:
        tasks = some(comparison.left_out)
        left_out = f" (without {tasks}, where {reference} did not score above 0)"
    head = (
        "Against equal weights (EW), the final model trained with these weights (CoTBal) changed"
        f" the {scores} by {number(change.value, 2, signed=True)} % on average"
    )
    if len(comparison.seeds) == 1:
        notes = " ".join(seed_notes(comparison))
        return [f"{head}, with one training seed; another may differ by more{left_out}. {notes}"]
    seeds = f"over {len(comparison.seeds)} training seeds"
    if not change.has_bounds:
        return [f"{head}, {seeds}, which are too few for an interval{left_out}."]
    bounds = bracket(change, 2, signed=True)
    return [
        f"{head} {bounds}, {seeds}; this change {change.verdict()}{left_out}.",
        _rows(comparison),
    ]


def _all_equal(balance: Balance) -> bool:
    return all(weight == 1 for weight in balance.weights.values())


def seed_notes(comparison: Comparison) -> list[str]:
    """What one training seed leaves open: the noise that is known, and the command that adds
    seeds; empty with several.
    """
    if len(comparison.seeds) != 1 or not comparison.against:
        return []
    notes = []
    if noise := comparison.seed_noise:
        size = noise_range(noise)
        source = noise.source
        if noise.left_out:
            reference = method_label(comparison.reference or "")
            tasks = some(noise.left_out)
            source += f", without {tasks}, where {reference} did not score above 0"
        notes.append(
            "The mean change between two trainings that differ in the seed alone has a standard"
            f" deviation of {size} % (from {source})."
        )
    return [*notes, f"To add seeds: `{command_for_seeds(comparison)}`."]


def command_for_seeds(comparison: Comparison) -> str:
    """The command that trains the methods of a comparison with two further seeds."""
    first = comparison.seeds[0]
    seeds = ",".join(str(first + i) for i in range(3))
    if any(name.startswith(f"{OURS}-") for name in comparison.methods):
        return f"cotbal ablate RECIPE --seeds {seeds}"
    methods = ",".join(comparison.methods)
    return f"cotbal compare RECIPE --methods {methods} --seeds {seeds}"


def _rows(comparison: Comparison) -> str:
    """How many test scores of CoTBal differ significantly from those of EW."""
    changes = []
    for row in comparison.rows:
        if OURS in row.differences:
            changes.append(row.differences[OURS])
    significant = [change.value for change in changes if change.differs()]
    better = sum(value > 0 for value in significant)
    worse = sum(value < 0 for value in significant)
    scores = plural(len(changes), "test score")
    return f"Of {scores}, {better} rose and {worse} fell significantly."


def _change(comparison: Comparison) -> Interval | None:
    """Improvement of CoTBal minus that of EW, or over EW where EW is the reference."""
    if OURS in comparison.paired:
        return comparison.paired[OURS]
    if OURS in comparison.against:
        return comparison.against[OURS].average
    return None
