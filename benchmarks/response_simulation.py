"""Does the choice of weights from trials help, and do its intervals and guardrails hold, where the
truth is known?

    python benchmarks/response_simulation.py [--draws 200]

A simulated mixture of seven tasks has own effects of about +2 % per doubling, cross effects, a
curvature of -0.5 % per squared doubling and, for the mean over tasks, a gradient of given length.
It is measured with 16 runs (14 mirrored trials at one doubling up and down, two with equal weights,
two seeds), and weights are chosen. The contrast is what "keep the best of random mixtures" does
with as many runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cotbal.response import (
    Choice,
    Response,
    Trials,
    choose_weights,
    compare_with_outcomes,
    fit_response,
    freeze,
    two_level_design,
)
from cotbal.response.coordinates import doublings

TASKS = tuple("abcdefg")
STEP = 1.0
RANDOM_STEP = 0.5  # standard deviation of the doublings of random weights
CURVATURE = -0.5  # % per squared doubling
NOISE = 0.7  # of the mean over tasks, % of the score, one run
SEED_LEVELS = 3.0  # standard deviation of what a seed does to a score, %
GRADIENTS = (0.0, 0.75, 1.5, 3.0)  # length of the gradient of the mean, % per doubling
SHARES = (0.0, 0.5, 1.0)  # of own weights in the curvature
USUAL_STEP = 0.75  # of `cotbal response`
FRESH = 4  # seeds of the final trainings
HARM = -0.1  # % of the mean below which a choice did harm


@dataclass(frozen=True)
class Truth:
    """A mixture: change of every score in % at `z` doublings is `z @ effects - 0.5 distance^2`.

    Attributes:
        share: of the squared distance that is due to the score's own weight.
    """

    effects: Float[np.ndarray, "task score"]
    share: float = 0.0

    def changes(self, z: Float[np.ndarray, "*trial task"]) -> Float[np.ndarray, "*trial score"]:
        squares = z**2
        of_all = squares.sum(axis=-1, keepdims=True)
        squares = self.share * len(TASKS) * squares + (1 - self.share) * of_all
        return z @ self.effects + CURVATURE * squares

    @property
    def best(self) -> float:
        """Largest gain of the mean with every weight within one doubling."""
        slope = self.effects.mean(axis=1)
        low, high = -10.0, 10.0
        for _ in range(60):
            shift = (low + high) / 2
            z = np.clip(-slope / (2 * CURVATURE) - shift, -1, 1)
            low, high = (shift, high) if z.sum() > 0 else (low, shift)
        return float(self.changes(z).mean())


@dataclass(frozen=True)
class Measured:
    """A truth, its measured response, and the noise of one score of one run."""

    truth: Truth
    response: Response
    noise: float
    generator: np.random.Generator

    def realised(self, choice: Choice) -> Float[np.ndarray, " score"]:
        z = doublings(np.array([choice.weights[task] for task in TASKS]))
        return self.truth.changes(z)


def drawn_truth(gradient: float, generator: np.random.Generator, share: float = 0.0) -> Truth:
    """Raising all weights changes nothing, and the mean has a gradient of this length."""
    count = len(TASKS)
    effects = generator.normal(0, 0.5, (count, count))
    np.fill_diagonal(effects, generator.normal(2, 1, count))
    effects -= effects.mean(axis=0)
    wanted = generator.standard_normal(count)
    wanted -= wanted.mean()
    wanted *= gradient / np.linalg.norm(wanted)
    return Truth(effects + (wanted - effects.mean(axis=1))[:, None], share)


def measured(
    gradient: float, noise: float, seed: int, step: float = STEP, share: float = 0.0
) -> Measured:
    """Trials of a drawn truth, and the response that is fitted to them."""
    generator = np.random.default_rng([int(100 * gradient), int(100 * noise), seed])
    truth = drawn_truth(gradient, generator, share)
    design = two_level_design(TASKS, step=step)
    levels = generator.normal(0, SEED_LEVELS, (len(set(design.seeds)), len(TASKS)))
    changes = truth.changes(doublings(design.weights)) + levels[list(design.seeds)]
    changes += generator.normal(0, noise, changes.shape)
    labels = tuple(map(str, design.seeds))
    trials = Trials(TASKS, TASKS, design.weights, 0.5 * (1 + changes / 100), labels)
    return Measured(truth, fit_response(trials), noise, generator)


def best_of_random(truth: Truth, noise: float, runs: int, generator: np.random.Generator) -> float:
    """True gain of the mean of the random weights with the best measured mean."""
    z = generator.standard_normal((runs, len(TASKS)))
    z = RANDOM_STEP * (z - z.mean(axis=1, keepdims=True))
    gains = truth.changes(z).mean(axis=1)
    seen = gains + generator.normal(0, noise / np.sqrt(len(TASKS)), runs)
    return float(gains[seen.argmax()])


def coverages(measured_response: Measured, choice: Choice) -> dict[str, float]:
    """Shares of intervals that hold the truth; NaN of predictions where equal weights are kept."""
    response, effects = measured_response.response, measured_response.truth.effects
    pairs = [(i, j) for i in range(len(TASKS)) for j in range(len(TASKS))]
    slopes = [response.slope(TASKS[i], TASKS[j]) for i, j in pairs]
    shrunk = [response.effect(TASKS[i], TASKS[j]) for i, j in pairs]
    truths = [effects[i, j] for i, j in pairs]
    room, best = choice.headroom.gain, measured_response.truth.best
    return {
        "slopes": share_inside(slopes, truths),
        "shrunk effects": share_inside(shrunk, truths),
        "headroom": float(room.low - 1e-9 <= best <= room.high + 1e-9),
        **_prediction_coverages(measured_response, choice),
    }


def _prediction_coverages(measured_response: Measured, choice: Choice) -> dict[str, float]:
    if choice.keep_equal:
        return {"predicted changes": np.nan, "outcomes of 4 seeds": np.nan}
    real = measured_response.realised(choice)
    # Trained weights minus equal weights, each with the noise of one run.
    noise = (
        measured_response.noise
        * np.sqrt(2)
        * measured_response.generator.standard_normal((len(TASKS), FRESH))
    )
    outcomes = {task: real[i] + noise[i] for i, task in enumerate(TASKS)}
    verdict = compare_with_outcomes(freeze(measured_response.response, choice), outcomes)
    return {
        "predicted changes": share_inside([choice.changes[task] for task in TASKS], real.tolist()),
        "outcomes of 4 seeds": verdict.coverage,
    }


def share_inside(intervals: Sequence, truths: Sequence[float]) -> float:
    inside = [i.low <= truth <= i.high for i, truth in zip(intervals, truths, strict=True)]
    return sum(inside) / len(inside)


def goal_of_mean(gradient: float, draws: int) -> tuple[dict[str, float], dict[str, float]]:
    """The choice for the mean over tasks, unguarded: gains, and coverages."""
    noise = NOISE * np.sqrt(len(TASKS))
    gains, kept, predicted, random, best, shares = [], [], [], [], [], []
    for seed in range(draws):
        simulated = measured(gradient, noise, seed)
        choice = choose_weights(simulated.response, "mean", floors=None)
        gains.append(simulated.realised(choice).mean())
        kept.append(choice.keep_equal)
        predicted.append(choice.gain.value)
        random.append(best_of_random(simulated.truth, noise, 16, simulated.generator))
        best.append(simulated.truth.best)
        shares.append(coverages(simulated, choice))
    numbers = {
        "best possible": np.mean(best),
        "gain": np.mean(gains),
        "error": np.std(gains, ddof=1) / np.sqrt(draws),
        "predicted": np.mean(predicted),
        "harm": np.mean(np.array(gains) < HARM),
        "kept equal": np.mean(kept),
        "random": np.mean(random),
        "random harm": np.mean(np.array(random) < HARM),
    }
    return (
        {name: float(value) for name, value in numbers.items()},
        {name: float(np.nanmean([row[name] for row in shares])) for name in shares[0]},
    )


def named_goal(noise: float, margin: float, draws: int) -> dict[str, float]:
    """The choice for one task, the six others guarded at -1 %: what the task gains, and how often
    and how far a guarded one falls below its floor.
    """
    gains, below, depths = [], [], []
    for seed in range(draws):
        simulated = measured(0.0, noise, seed)
        choice = choose_weights(simulated.response, TASKS[0], floors=-1.0, margin=margin)
        real = simulated.realised(choice)
        gains.append(real[0])
        below.append(np.mean(real[1:] < -1.0 - 1e-9))
        depths.append(np.maximum(-1.0 - real[1:], 0.0).max())
    return {
        "gain": float(np.mean(gains)),
        "below": float(np.mean(below)),
        "depth": float(np.mean(depths)),
    }


def one_task(noise: float, share: float, draws: int, known: float | None) -> dict[str, float]:
    """The choice for one task, by how much of the curvature is due to own weights: what the task
    is predicted to gain, gains, and how often the intervals of all tasks hold.

    Args:
        known: a share that predictions take for granted instead of estimating it.
    """
    predicted, gains, inside = [], [], []
    for seed in range(draws):
        simulated = measured(0.0, noise, seed, USUAL_STEP, share)
        response = simulated.response
        if known is not None:
            departure = replace(response.departure, share=known, error=0.0)
            response = replace(response, departure=departure)
        choice = choose_weights(response, TASKS[0], floors=-1.0)
        real = simulated.realised(choice)
        gains.append(real[0])
        predicted.append(choice.gain.value)
        if not choice.keep_equal:
            intervals = [choice.changes[task] for task in TASKS]
            inside.append(share_inside(intervals, real.tolist()))
    return {
        "predicted": float(np.mean(predicted)),
        "gain": float(np.mean(gains)),
        "inside": float(np.mean(inside)),
    }


def print_one_task(draws: int) -> None:
    print(
        "\n| share of own weights | fit | predicted gain | gain of the task | predicted changes"
        " inside |\n|--:|---|--:|--:|--:|"
    )
    for share in SHARES:
        for name, known in (("estimates it", None), ("takes it for 0", 0.0)):
            n = one_task(NOISE * np.sqrt(len(TASKS)), share, draws, known)
            print(
                f"| {share:g} | {name} | {n['predicted']:+.2f} | {n['gain']:+.2f} |"
                f" {n['inside']:.3f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    rows = {gradient: goal_of_mean(gradient, draws) for gradient in GRADIENTS}
    print(
        "| gradient | best possible | gain of the choice | predicted | harm | kept equal | best of"
        " 16 random | its harm |\n|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for gradient, (n, _) in rows.items():
        print(
            f"| {gradient:g} | {n['best possible']:.2f} | {n['gain']:+.2f} (SE {n['error']:.2f}) |"
            f" {n['predicted']:+.2f} | {n['harm']:.0%} | {n['kept equal']:.0%} |"
            f" {n['random']:+.2f} | {n['random harm']:.0%} |"
        )
    names = list(rows[0.0][1])
    print(f"\n| gradient | {' | '.join(names)} |\n|--:|{'--:|' * len(names)}")
    for gradient, (_, shares) in rows.items():
        print(f"| {gradient:g} | {' | '.join(f'{shares[name]:.3f}' for name in names)} |")
    print("\n| noise of a score | margin, SE | gain of the task | below the floor | by |")
    print("|--:|--:|--:|--:|--:|")
    for noise in (NOISE, NOISE * np.sqrt(len(TASKS))):
        for margin in (0.0, 1.0, 2.0):
            n = named_goal(noise, margin, draws)
            print(
                f"| {noise:.2f} | {margin:g} | {n['gain']:+.2f} | {n['below']:.1%} |"
                f" {n['depth']:.2f} |",
                flush=True,
            )
    print_one_task(draws)


if __name__ == "__main__":
    main()
