"""The Large Benchmark of CoTBal / VisATB: seventeen data sets of M3IT (Li et al. 2023) in five
groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cotbal.benchmarks.large.export import export_sources
from cotbal.benchmarks.large.raw import known_configs, raw_sources
from cotbal.benchmarks.large.sets import DataSet, data_sets
from cotbal.benchmarks.large.settings import RECIPE
from cotbal.benchmarks.releases import benchmark
from cotbal.benchmarks.releases.benchmark import Places, Prepared, SplitPlan, TaskPlan
from cotbal.benchmarks.releases.sources import Choices
from cotbal.benchmarks.releases.writing import Expected
from cotbal.data.checks.census import Progress
from cotbal.errors import CotbalError

__all__ = ["Choices", "Places", "Variant", "plans", "prepare"]

_VERSION = 2  # repeated captions of COCO stay
_COCO_IMAGES = 5_000  # in validation, and again in test


@dataclass(frozen=True)
class Variant:
    """Which data sets are read, and from which files.

    Attributes:
        nlvr: NLVR as printed in the paper, in place of VCR as released.
        raw: read M3IT's own files where their keys are known.
    """

    nlvr: bool = False
    raw: bool = False


RELEASED = Variant()


def plans(variant: Variant = RELEASED, single_reference: bool = False) -> tuple[TaskPlan, ...]:
    """The seventeen tasks, group by group.

    Args:
        single_reference: every caption of COCO is a sample of its own in evaluation.
    """
    return tuple(_plan(data, variant.raw, single_reference) for data in data_sets(variant.nlvr))


def _plan(data: DataSet, raw: bool, single_reference: bool) -> TaskPlan:
    validation, test = data.validation, data.test
    if data.halved:
        test = data.validation // 2
        validation = data.validation - test
    sizes = {"train": data.train, "validation": validation, "test": test}
    expected = {split: Expected(size, size) for split, size in sizes.items()}
    if data.config == "coco" and not single_reference:
        expected |= dict.fromkeys(("validation", "test"), Expected(_COCO_IMAGES, rounded_to=10))
    sources = raw_sources if raw else export_sources
    splits = tuple(SplitPlan(split, sources(data, split), expected[split]) for split in sizes)
    version = "raw" if raw else _VERSION  # both have other texts of the same rows
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
    variant: Variant = RELEASED,
) -> Prepared:
    """Build the benchmark, or some of its tasks; tasks that are complete on disk are kept.

    Args:
        places: where the exports are, and where the benchmark goes.
        tasks: names of tasks; None means all.
        model: key of `cotbal.benchmarks.releases.paper.MODELS`.

    Raises:
        CotbalError: an unknown task or model, files that are absent, broken or of another version,
            missing images.
    """
    known = plans(variant, choices.single_reference)
    target = RECIPE.benchmark(known, tasks, model, choices)
    if variant.raw:
        _demand_known([plan.name for plan in target.chosen])
    return benchmark.prepare(target, places, choices, progress)


def _demand_known(names: Sequence[str]) -> None:
    readable = [data.name for data in data_sets() if data.config in known_configs()]
    strange = [name for name in names if name not in readable]
    if strange:
        raise CotbalError(
            f"--raw: the keys of M3IT's own files are known for {', '.join(readable)}; for"
            f" {', '.join(strange)} export the unified rows with `datasets<4` (docs/benchmarks.md)"
            f" and leave --raw out. Give --tasks {','.join(readable)} to read these raw",
            "unknown-task",
        )
