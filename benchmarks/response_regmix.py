"""Does the response model predict held-out mixtures of a public table?

    python benchmarks/response_regmix.py DIRECTORY [--draws 8]

The table is that of RegMix (github.com/sail-sg/regmix): 512 proxy models of 1 million parameters,
each trained on a random mixture of 17 domains of the Pile, with 13 validation losses; 256 held-out
mixtures at the same size, 64 at 1 billion parameters. The directory holds `train_mixture_1m.csv`,
`train_pile_loss_1m.csv` and the same of `test` at `1m` and `1B`. The response is fitted on some of
the 512, on the logarithms of the sampling ratios, and the losses of held-out mixtures are ranked.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cotbal.response import Trials, fit_response
from cotbal.response.coordinates import doublings

RUNS = (18, 34, 51, 512)
DOMAIN, LOSS = "train_the_pile_", "metric/the_pile_"
TAIL = "_val_loss"


@dataclass(frozen=True)
class Table:
    """Mixtures and the losses that came out."""

    domains: tuple[str, ...]
    scored: tuple[str, ...]
    ratios: Float[np.ndarray, "run domain"]
    losses: Float[np.ndarray, "run loss"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--draws", type=int, default=8, help="subsets of runs per size")
    arguments = parser.parse_args()
    train, test, large = (
        read(arguments.directory, kind, size)
        for kind, size in (("train", "1m"), ("test", "1m"), ("test", "1B"))
    )
    print("| runs | rank correlation, 1M | lowest of the subsets | rank correlation, 1B |")
    print("|--:|--:|--:|--:|")
    for runs in RUNS:
        draws = arguments.draws if runs < len(train.ratios) else 1
        drawn = np.array([correlations(train, (test, large), runs, d) for d in range(draws)])
        small, big = drawn.T
        print(
            f"| {runs} | {np.mean(small):.3f} | {min(small):.3f} | {np.mean(big):.3f} |", flush=True
        )


def read(directory: Path, kind: str, size: str) -> Table:
    """Rows of both tables, joined on their index."""
    domains, mixtures = _rows(directory / f"{kind}_mixture_{size}.csv")
    scored, losses = _rows(directory / f"{kind}_pile_loss_{size}.csv")
    both = [index for index in mixtures if index in losses]
    return Table(
        tuple(name.removeprefix(DOMAIN) for name in domains),
        tuple(name.removeprefix(LOSS).removesuffix(TAIL) for name in scored),
        np.array([mixtures[index] for index in both]),
        np.array([losses[index] for index in both]),
    )


def _rows(path: Path) -> tuple[list[str], dict[str, list[float]]]:
    header, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
    return header[1:], {line[0]: list(map(float, line[1:])) for line in lines}


def correlations(train: Table, tests: tuple[Table, ...], runs: int, draw: int) -> list[float]:
    """Mean over losses of the rank correlation of predicted and measured, on each of `tests`, from
    a random subset of the runs.
    """
    chosen = np.random.default_rng(draw).permutation(len(train.ratios))[:runs]
    trials = Trials(
        train.domains,
        train.scored,
        np.ones((runs, len(train.domains))),
        train.losses[chosen],
        ("",) * runs,
        train.ratios[chosen],
        lower_is_better=True,
    )
    # 18 runs are one for the level, 16 slopes and one for the noise.
    enough = runs > len(train.domains) + 1
    response = fit_response(trials, "task" if enough else "none")
    values = []
    for test in tests:
        z = doublings((test.ratios + _least(trials)) / trials.reference)
        predicted = np.array([response.changes(row) for row in z])
        values.append(float(np.mean(rank_correlations(predicted, -test.losses))))
    return values


def _least(trials: Trials) -> float:
    """What the trials add to all ratios so that none is 0."""
    assert trials.ratios is not None
    return float(trials.ratios[trials.ratios > 0].min())


def rank_correlations(
    first: Float[np.ndarray, "run loss"], second: Float[np.ndarray, "run loss"]
) -> Float[np.ndarray, " loss"]:
    ranks = [values.argsort(axis=0).argsort(axis=0) for values in (first, second)]
    centred = [r - r.mean(axis=0) for r in ranks]
    sizes = [np.sqrt((r**2).sum(axis=0)) for r in centred]
    return (centred[0] * centred[1]).sum(axis=0) / (sizes[0] * sizes[1])


if __name__ == "__main__":
    main()
