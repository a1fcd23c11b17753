"""The Academic Benchmark of CoTBal / VisATB (Table 8): eight tasks, built from the public
releases."""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.benchmarks.academic import chartqa, gqa, ocrvqa, refcoco, sharegpt, sharegpt4v, vqav2
from cotbal.benchmarks.academic.settings import RECIPE, chosen
from cotbal.benchmarks.releases import benchmark
from cotbal.benchmarks.releases.benchmark import Places, Prepared, TaskPlan
from cotbal.benchmarks.releases.paper import MODELS
from cotbal.benchmarks.releases.sources import Choices
from cotbal.data.checks.census import Progress

__all__ = ["MODELS", "Choices", "Places", "plans", "prepare"]


def plans() -> tuple[TaskPlan, ...]:
    """The eight tasks, in the order of the published task ids 0 to 7."""
    return (
        sharegpt4v.plan(),
        refcoco.caption_plan(),
        vqav2.plan(),
        gqa.plan(),
        chartqa.plan(),
        ocrvqa.plan(),
        refcoco.bbox_plan(),
        sharegpt.plan(),
    )


def prepare(
    places: Places,
    choices: Choices,
    progress: Progress,
    *,
    tasks: Sequence[str] | None = None,
    model: str = "7b",
) -> Prepared:
    """Build the benchmark, or some of its tasks; tasks that are complete on disk are kept.

    Args:
        places: where the releases are, and where the benchmark goes.
        tasks: names of tasks; None means all.
        model: key of MODELS.

    Raises:
        CotbalError: an unknown task or model, files that are absent, broken or of another version,
            missing images.
    """
    target = RECIPE.benchmark(plans(), tasks, model, choices, **chosen(choices))
    return benchmark.prepare(target, places, choices, progress)
