"""Does `pocket` still measure what it should? Checks a finished run directory against its health
criteria.

    python benchmarks/pocket_health.py runs/pocket

Prints one row per task and one line a criterion; exits with 1 if a criterion fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from cotbal.balance.probes import MINI, full_run
from cotbal.balance.uncertainty import resample_scores
from cotbal.data.files import read_json
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import score_matrix
from cotbal.recipe.recipe import load_recipe
from cotbal.scores.interval import percentile_bounds

GAIN, SATURATED, WEAK, STANDARD_ERROR, TEST_RECORDS = 0.10, 0.95, 0.40, 0.10, 2000


def main(directory: Path) -> int:
    root = RunDir(directory)
    tasks = load_recipe(root.recipe).mixture.balanced
    runs = [MINI, *(full_run(task.name) for task in tasks)]
    matrix = score_matrix(
        {run: root.probe(run) for run in runs}, {task.name: task.metric for task in tasks}
    )
    resampled = resample_scores([matrix], 2000, 0)
    failures = []
    print("| task | maximum | mini | own | gain | sampling error only | constant answer |")
    print("|---|---|---|---|---|---|---|")
    for j, task in enumerate(tasks):
        own_row, maximum = matrix.row(full_run(task.name)), matrix.samples[task.name].maximum
        low, high = percentile_bounds(resampled[:, own_row, j] - resampled[:, 0, j])
        mini, full = matrix.values[0, j], matrix.values[own_row, j]
        constant = float(np.mean(matrix.samples[task.name].constant))
        gain = f"{full - mini:.3f} | {low:.3f} to {high:.3f}"
        print(f"| {task.name} | {maximum:g} | {mini:.3f} | {full:.3f} | {gain} | {constant:.3f} |")
        checks = {
            "mini score above 0": mini > 0,
            "gain at least 10 points": full - mini >= GAIN * maximum,
            "gain beyond its sampling error": low > 0,
            "not saturated": full <= SATURATED * maximum,
            "own score at least 0.4 of the maximum": full >= WEAK * maximum,
        }
        failures += [f"{task.name}: {name}" for name, met in checks.items() if not met]
    failures += _of_contributions(read_json(root.balance)) + _of_tests(root, tasks)
    print(
        "\nall criteria met"
        if not failures
        else "\nnot met:\n" + "\n".join(f"- {failure}" for failure in failures)
    )
    return int(bool(failures))


def _of_contributions(balance: dict) -> list[str]:
    bounds = np.array(balance["intervals"]["contribution"], dtype=float)
    off = ~np.eye(len(bounds), dtype=bool)
    errors = (bounds[..., 1] - bounds[..., 0])[off] / (2 * 1.96)
    print(
        f"\nstandard error of a contribution: median {np.nanmedian(errors):.3f}, largest"
        f" {np.nanmax(errors):.3f}"
    )
    print(f"flags: {json.dumps([flag['kind'] + ' ' + flag['task'] for flag in balance['flags']])}")
    return (
        []
        if np.nanmedian(errors) <= STANDARD_ERROR
        else ["median standard error of a contribution at most 0.1"]
    )


def _of_tests(root: RunDir, tasks: tuple) -> list[str]:
    short = []
    for task in tasks:
        for split in task.test:
            count = read_json(root.final("ew").scores(task.name, split))["n"]
            short += (
                [f"{task.name}: {count} test records, fewer than {TEST_RECORDS}"]
                if count < TEST_RECORDS
                else []
            )
    return short


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
