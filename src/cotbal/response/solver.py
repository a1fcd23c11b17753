"""Small smooth problems with constraints: Newton's method on a logarithmic barrier (Boyd and
Vandenberghe, Convex Optimization, section 11.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Point = Float[np.ndarray, " variable"]
Hessian = Float[np.ndarray, "variable variable"]
Values = Float[np.ndarray, " function"]
Gradients = Float[np.ndarray, "function variable"]
Hessians = Float[np.ndarray, "function variable variable"]
Derivatives = tuple[Values, Gradients, Hessians]
Smooth = Callable[[Point], Derivatives]
LAST_GAP = 1e-4  # in the unit of the objective
GROWTH = 50.0  # of the weight of the objective from one barrier to the next
STEPS = 50  # of Newton's method per barrier
SHORTEST = 1e-10  # share of a step
DECREASE = 1e-9  # squared Newton decrement at which a barrier's minimum is reached


@dataclass(frozen=True)
class Program:
    """A concave objective under constraints.

    Attributes:
        functions: first the objective, which is maximised, then concave functions that stay above
            0.
        rows, limits: `rows @ point` stays below `limits`.
    """

    functions: Smooth
    rows: Float[np.ndarray, "row variable"]
    limits: Float[np.ndarray, " row"]

    def barrier(self, point: Point, sharpness: float) -> tuple[float, Point, Hessian]:
        """`-sharpness * objective` minus the logarithms of the distances from the constraints, its
        gradient and Hessian; infinite where a constraint is broken.
        """
        derivatives = self.functions(point)
        total, gradient, hessian = (-sharpness * part[0] for part in derivatives)
        inside, slopes, curvatures = (part[1:] for part in derivatives)
        linear = self.limits - self.rows @ point
        if linear.min() <= 0 or inside.min(initial=1.0) <= 0:
            return float("inf"), gradient, hessian
        total -= np.log(inside).sum()
        total -= np.log(linear).sum()
        slopes = slopes / inside[:, None]
        rows = self.rows / linear[:, None]
        gradient -= slopes.sum(axis=0)
        gradient += rows.sum(axis=0)
        hessian += slopes.T @ slopes
        hessian += rows.T @ rows
        hessian -= np.einsum("n,nij->ij", 1 / inside, curvatures)
        return float(total), gradient, hessian


def maximise(program: Program, start: Point) -> Point:
    """The point with the largest objective inside all constraints.

    Args:
        program: what is maximised.
        start: a point inside all constraints.
    """
    values, _, _ = program.functions(start)
    constraints = len(program.limits) + len(values) - 1
    point = start
    sharpness = 1.0
    while constraints / sharpness > LAST_GAP:
        point = _centre(program, point, sharpness)
        sharpness *= GROWTH
    return point


def _centre(program: Program, point: Point, sharpness: float) -> Point:
    """The minimum of the barrier, by Newton's method with a backtracking line search."""
    value, gradient, hessian = program.barrier(point, sharpness)
    for _ in range(STEPS):
        convex = _positive(hessian)
        step = -np.linalg.solve(convex, gradient)
        slope = float(gradient @ step)
        if -slope < DECREASE:
            break
        length = 1.0
        while length > SHORTEST:
            moved = program.barrier(point + length * step, sharpness)
            enough = value + 0.01 * length * slope
            if moved[0] <= enough:
                break
            length /= 2
        else:  # rounding leaves no improvement
            break
        point = point + length * step
        value, gradient, hessian = moved
    return point


def _positive(hessian: Hessian) -> Hessian:
    """The Hessian with eigenvalues that are positive, where a constraint is not quite concave."""
    values, vectors = np.linalg.eigh(hessian)
    sizes = np.abs(values)
    least = 1e-10 * max(1.0, float(sizes.max()))
    positive = np.maximum(sizes, least)
    return (vectors * positive) @ vectors.T
