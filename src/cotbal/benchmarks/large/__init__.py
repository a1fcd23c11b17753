"""The Large Benchmark of CoTBal / VisATB: seventeen data sets of M3IT (Li et al. 2023) in five
groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.benchmarks.large.export import export_sources
from cotbal.benchmarks.large.raw import known_configs, raw_sources
from cotbal.benchmarks.large.sets import DataSet, data_sets
from cotbal.benchmarks.large.settings import head, settings
from cotbal.benchmarks.releases import benchmark
from cotbal.benchmarks.releases.benchmark import (
    Places,
    Prepared,
    SplitPlan,
    TaskPlan,
    chosen_tasks,
    task_yaml,
)
from cotbal.benchmarks.releases.paper import ACCELERATE, FSDP2
from cotbal.benchmarks.releases.sources import Choices
from cotbal.benchmarks.releases.writing import Expected
from cotbal.data.census import Progress
from cotbal.errors import CotbalError

__all__ = ["Choices", "Places", "plans", "prepare"]

_VERSION = 2  # repeated captions of COCO stay
_COCO_PICTURES = 5_000  # in validation, and again in test


def plans(
    nlvr: bool = False, raw: bool = False, single_reference: bool = False
) -> tuple[TaskPlan, ...]:
    """The seventeen tasks, group by group.

    Args:
        nlvr: NLVR as printed in the paper, in place of VCR as released.
        raw: read M3IT's own files where their keys are known.
        single_reference: every caption of COCO is a sample of its own in evaluation.
    """
    return tuple(_plan(data, raw, single_reference) for data in data_sets(nlvr))


def _plan(data: DataSet, raw: bool, single_reference: bool) -> TaskPlan:
    test = data.validation // 2 if data.halved else data.test
    sizes = {
        "train": data.train,
        "validation": data.validation - (test if data.halved else 0),
        "test": test,
    }
    expected = {split: Expected(size, size) for split, size in sizes.items()}
    if data.config == "coco" and not single_reference:
        expected |= dict.fromkeys(("validation", "test"), Expected(_COCO_PICTURES, rounded_to=10))
    splits = tuple(
        SplitPlan(
            split, raw_sources(data, split) if raw else export_sources(data, split), expected[split]
        )
        for split in sizes
    )
    version = (
        "raw" if raw else _VERSION
    )  # other texts of the same rows: one must not pass for the other
    return TaskPlan(
        data.name, data.metric, splits, remarks=data.remark, group=data.group, version=version
    )


def prepare(
    places: Places,
    choices: Choices,
    progress: Progress,
    *,
    tasks: Sequence[str] | None = None,
    model: str = "7b",
    nlvr: bool = False,
    raw: bool = False,
) -> Prepared:
    """Build the benchmark, or some of its tasks; what is there and whole is not made again.

    Args:
        places: where the exports lie, and where the benchmark goes.
        tasks: names of tasks; None means all.
        model: key of `cotbal.benchmarks.releases.paper.MODELS`.
        nlvr, raw: as in `plans`.

    Raises:
        CotbalError: an unknown task or model, files that are absent, broken or of another version,
            missing pictures.
    """
    known, size = plans(nlvr, raw, choices.single_reference), settings(model)
    chosen = chosen_tasks(known, tasks)
    if raw:
        _demand_known([plan.name for plan in chosen])

    def text(ready: Sequence[TaskPlan]) -> str:
        return head(choices) + "".join(map(task_yaml, ready)) + size

    return benchmark.prepare(known, chosen, places, choices, text, progress, {ACCELERATE: FSDP2})


def _demand_known(names: Sequence[str]) -> None:
    readable = [data.name for data in data_sets() if data.config in known_configs()]
    strange = [name for name in names if name not in readable]
    if strange:
        raise CotbalError(
            f"--raw: the keys of M3IT's own files are known for {', '.join(readable)}; for"
            f" {', '.join(strange)} export the unified rows with `datasets<4` (docs/benchmarks.md)"
            f" and leave --raw out. Give --tasks {','.join(readable)} to read these raw"
        )
