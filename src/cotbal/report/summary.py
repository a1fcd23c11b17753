"""What happened, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.balance import Balance
from cotbal.report.comparison import BASELINE, OURS, Comparison
from cotbal.report.contents import Contents
from cotbal.report.formatting import bracket, listed, number, plural
from cotbal.weightings import method_label

NAMED = 6  # more names than these make a sentence that nobody reads


def summary(contents: Contents, found: Comparison) -> list[str]:
    """Sentences that a reader who stops here should have read."""
    balance = contents.balance
    sentences = [_what(contents)]
    sentences += _weights(balance) if balance else [_no_weights(contents)]
    if balance and balance.flags:
        tasks = listed(list(dict.fromkeys(flag.task for flag in balance.flags)))
        sentences.append(
            f"Something was flagged for {tasks}: read the next section before you trust these"
            " numbers."
        )
    return [*sentences, *_curve(contents), *_finals(found)]


def _what(contents: Contents) -> str:
    balanced = _balanced(contents)
    text = f"{plural(len(balanced), 'task')} of the mixture {contents.name} "
    text += (
        f"{_were(balanced)} {'balanced' if contents.probes or contents.balance else 'trained on'}"
    )
    done = sum(run.status == "done" for run in contents.probes)
    if contents.probes:
        text += f" from {plural(done, 'probe')}"
        text += (
            "" if done == len(contents.probes) else f" of {len(contents.probes)} that were planned"
        )
    rest = (
        [t.name for t in contents.recipe.mixture.tasks if not t.balanced] if contents.recipe else []
    )
    if rest:
        text += (
            f"; {listed(rest)} took no part and {'has' if len(rest) == 1 else 'have'} the mean"
            " weight, 1"
        )
    return text + "."


def _no_weights(contents: Contents) -> str:
    if contents.curve and not contents.probes:
        return "There are no weights, because no probe was planned here."
    return "The weights are not known yet: not every probe is done."


def _curve(contents: Contents) -> list[str]:
    if not contents.curve:
        return []
    done = sum(run.status == "done" for run in contents.curve)
    rest = "" if done == len(contents.curve) else f" of {len(contents.curve)} that were planned"
    return [f"Score against training amount was measured with {plural(done, 'training')}{rest}."]


def _were(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _balanced(contents: Contents) -> tuple[str, ...]:
    if contents.recipe:
        return tuple(task.name for task in contents.recipe.mixture.balanced)
    return contents.balance.units if contents.balance else contents.tasks


def _weights(balance: Balance) -> list[str]:
    if balance.part_intervals is None:
        return ["The weights have no intervals, because the table of scores holds no samples."]
    clear = [unit for unit in balance.units if balance.distinguishable(unit)]
    clear.sort(key=lambda unit: -balance.weights[unit])
    more = [
        f"{unit} ({number(balance.weights[unit], 2)})"
        for unit in clear
        if balance.weights[unit] > 1
    ]
    less = [
        f"{unit} ({number(balance.weights[unit], 2)})"
        for unit in clear
        if balance.weights[unit] <= 1
    ]
    unclear = [unit for unit in balance.units if unit not in clear]
    sentences = []
    if more:
        sentences.append(f"By the weights, the tokens of {listed(more)} count more than average.")
    if less:
        sentences.append(f"By the weights, the tokens of {listed(less)} count less than average.")
    if len(unclear) == 1:
        sentences.append(f"The weight of {unclear[0]} is not distinguishable from 1.")
    elif unclear:
        which = f"of {listed(unclear)}" if len(unclear) <= NAMED else f"of {len(unclear)} tasks"
        sentences.append(f"The weights {which} are not distinguishable from 1.")
    return sentences


def _finals(found: Comparison) -> list[str]:
    missing = [
        label for name, label in ((BASELINE, "EW"), (OURS, "CoTBal")) if name not in found.methods
    ]
    if missing:
        return [f"Final models not trained yet: {listed(missing)}."]
    change = found.paired.get(OURS) or (
        found.against[OURS].average if OURS in found.against else None
    )
    if change is None:
        return []
    better = [row for row in found.rows if row.differences[OURS].low > 0]
    worse = [row for row in found.rows if row.differences[OURS].high < 0]
    against = (
        f"improvement over {method_label(found.reference or '')}" if found.paired else "test scores"
    )
    seeds = (
        f", over {len(found.seeds)} training seeds"
        if len(found.seeds) > 1
        else ", one training seed"
    )
    sentence = (
        "Against equal weights (EW), the final model trained with these weights (CoTBal) changed"
        f" the {against} by {number(change.value, 2, signed=True)} % on average"
        f" {bracket(*change.bounds, 2, signed=True)}{seeds}, which is"
        f" {'distinguishable' if change.clear else 'not distinguishable'} from no change"
    )
    clear = (
        f"of {plural(len(found.rows), 'test score')}, {len(better)} clearly rose and {len(worse)}"
        " clearly fell"
    )
    lost = (
        f" (without {listed(list(found.left_out))}, where {method_label(found.reference or '')}"
        " did not score above 0)"
    )
    return [f"{sentence}{lost if found.left_out else ''}; {clear}."]
