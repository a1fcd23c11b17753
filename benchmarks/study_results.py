"""A results file from a finished `cotbal compare` or `cotbal ablate`: what was measured, on what,
and every table.

    python benchmarks/study_results.py RUN --title "..." --claim claim.md >
    benchmarks/results/NAME.md

The claim is written by hand, because only a reader can say what the numbers show; everything below
it is computed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cotbal.jobs.compare import SHORT
from cotbal.report.comparison import Comparison
from cotbal.report.contents import Contents, read_contents
from cotbal.report.formatting import listed, number
from cotbal.report.markdown import table
from cotbal.report.model_tables import model_tables, variant_tables
from cotbal.report.models import compare_all
from cotbal.report.tables import weights_table
from cotbal.weightings import method_label


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--title", required=True)
    parser.add_argument(
        "--claim", type=Path, required=True, help="Markdown file that starts with 'Claim:'"
    )
    parser.add_argument(
        "--methods", help="final models to tell of, such as ew,cotbal; all by default"
    )
    given = parser.parse_args()
    contents = read_contents(given.run)
    if given.methods:
        contents = only(contents, [SHORT.get(name, name) for name in given.methods.split(",")])
    comparison = compare_all(contents)
    parts = [
        f"# {given.title}\n",
        given.claim.read_text(encoding="utf-8").strip() + "\n",
        facts(contents, comparison),
    ]
    if contents.balance:
        parts.append(table(weights_table(contents.balance)))
    print(
        "\n".join(
            [*parts, *map(table, variant_tables(contents, comparison) + model_tables(comparison))]
        )
    )


def only(contents: Contents, methods: Sequence[str]) -> Contents:
    """The run directory as if no other final models had been trained in it."""
    chosen = [
        run
        for run in contents.runs
        if run.kind != "final" or run.name in methods or run.name.startswith("stl:")
    ]
    return replace(contents, runs=tuple(chosen))


def facts(contents: Contents, comparison: Comparison) -> str:
    """Hardware, versions, seeds, sizes and cost, as a list."""
    done = [run for run in contents.runs if run.status == "done"]
    versions = Counter(tuple(sorted(run.outcome["versions"].items())) for run in done)
    seconds = sum(run.outcome["seconds"]["total"] for run in done)
    trained = Counter(run.outcome["records"] for run in contents.finals if run.status == "done")
    tests = {(key[0], len(s.clusters)) for run in contents.finals for key, s in run.scores.items()}
    counts = sorted({count for _, count in tests})
    lines = [
        f"Hardware: 2 cores of {processor()}, no GPU; one thread per run, two runs at a time.",
        "Versions: "
        + "; ".join(", ".join(f"{k} {v}" for k, v in items) for items in versions)
        + ".",
        (
            f"Training seeds of the models: {', '.join(map(str, comparison.seeds))} (n ="
            f" {len(comparison.seeds)}); a seed changes the order of the data, the same for every"
            " method; all start from the same checkpoint."
        ),
        (
            f"Records a final training saw: {listed([str(n) for n in sorted(trained)])}; test"
            f" samples per task: {listed([str(n) for n in counts])}."
        ),
        (
            f"Cost: {len(done)} runs, {seconds / 3600:.1f} h of worker time; peak memory of a"
            f" worker {max(run.outcome['peak_memory_mib'] for run in done)} MiB."
        ),
        *smallest(comparison),
    ]
    return "\n".join(f"- {line}" for line in lines) + "\n"


def smallest(comparison: Comparison) -> list[str]:
    """The smallest difference from EW that these seeds and samples could have shown, by method."""
    halves = [
        f"{method_label(name)} {number(change.half_width, 2)}"
        for name, change in comparison.paired.items()
    ]
    return (
        [f"Half-width of the 95 % interval of `improvement - EW`, in points: {', '.join(halves)}."]
        if halves
        else []
    )


def processor() -> str:
    """Name of the processor, as the system tells it."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"an {names[0]}" if names else "an unknown processor"


if __name__ == "__main__":
    main()
