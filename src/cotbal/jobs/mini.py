"""`cotbal plan --suggest-mini`: how large a mini should be, from where the loss curves bend
(Appendix C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from cotbal.errors import RunError
from cotbal.jobs.elbow import elbow_of, mini_rate
from cotbal.jobs.losses import read_losses
from cotbal.jobs.plan import Prepared

EQUAL = "ew"


@dataclass(frozen=True)
class MiniAdvice:
    """Advice for `portions.mini`.

    Attributes:
        elbows: task -> share of its data after which its loss falls slowly; tasks without an elbow
            are left out.
        rate: the portion that holds the latest elbow; None where no task has one.
        records: task -> records in a mini of that rate.
    """

    elbows: Mapping[str, float]
    rate: Fraction | None
    records: Mapping[str, int]


def suggest_mini(prepared: Prepared) -> MiniAdvice:
    """Read the losses of a training on all data with equal weights, finished or not.

    Raises:
        RunError: there is none in the run directory, or its losses are damaged.
    """
    rows = read_losses(prepared.root.final(EQUAL))
    if not rows:
        raise RunError(
            f"{prepared.root.root}: expected the losses of a training with equal weights, from"
            " which the size of a mini follows; found none: start with `cotbal train RECIPE"
            " --weighting ew`, a part of it suffices",
            "missing-losses",
        )
    names = [task.name for task in prepared.recipe.mixture.balanced]
    elbows = {name: at for name in names if (at := elbow_of(rows, name)) is not None}
    rate = mini_rate(list(elbows.values())) if elbows else None
    sizes = {name: prepared.inputs.sizes[name]["full"] for name in names}
    return MiniAdvice(
        elbows,
        rate,
        {} if rate is None else {name: int(size * rate) for name, size in sizes.items()},
    )
