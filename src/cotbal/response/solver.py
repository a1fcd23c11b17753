"""Small smooth problems with constraints: Newton's method on a logarithmic barrier (Boyd and
Vandenberghe, Convex Optimization, section 11.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Point = Float[np.ndarray, " variable"]
Derivatives = tuple[  # values, their gradients and their Hessians
    Float[np.ndarray, " function"],
    Float[np.ndarray, "function variable"],
    Float[np.ndarray, "function variable variable"],
]
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

    def barrier(
        self, point: Point, sharpness: float
    ) -> tuple[float, Float[np.ndarray, " variable"], Float[np.ndarray, "variable variable"]]:
        """`-sharpness * objective` minus the logarithms of the distances from the constraints, its
        gradient and Hessian; infinite where a constraint is broken.
        """
        values, gradients, hessians = self.functions(point)
        linear = self.limits - self.rows @ point
        inside = values[1:]
        if linear.min() <= 0 or inside.min(initial=1.0) <= 0:
            return float("inf"), gradients[0], hessians[0]
        total = -sharpness * values[0] - np.log(inside).sum() - np.log(linear).sum()
        scaled, rows = gradients[1:] / inside[:, None], self.rows / linear[:, None]
        gradient = -sharpness * gradients[0] - scaled.sum(axis=0) + rows.sum(axis=0)
        hessian = -sharpness * hessians[0] + scaled.T @ scaled + rows.T @ rows
        hessian = hessian - np.einsum("n,nij->ij", 1 / inside, hessians[1:])
        return float(total), gradient, hessian


def maximise(program: Program, start: Point) -> Point:
    """The point with the largest objective inside all constraints.

    Args:
        program: what is maximised.
        start: a point inside all constraints.
    """
    count = len(program.limits) + len(program.functions(start)[0]) - 1
    point, sharpness = start, 1.0
    while count / sharpness > LAST_GAP:
        point = _centre(program, point, sharpness)
        sharpness *= GROWTH
    return point


def _centre(program: Program, point: Point, sharpness: float) -> Point:
    """The minimum of the barrier, by Newton's method with a backtracking line search."""
    value, gradient, hessian = program.barrier(point, sharpness)
    for _ in range(STEPS):
        step = -np.linalg.solve(_positive(hessian), gradient)
        slope = float(gradient @ step)
        if -slope < DECREASE:
            break
        length = 1.0
        while length > SHORTEST:
            moved = program.barrier(point + length * step, sharpness)
            if moved[0] <= value + 0.01 * length * slope:
                break
            length /= 2
        else:  # rounding leaves no improvement
            break
        point = point + length * step
        value, gradient, hessian = moved
    return point


def _positive(
    hessian: Float[np.ndarray, "variable variable"],
) -> Float[np.ndarray, "variable variable"]:
    """The Hessian with eigenvalues that are positive, where a constraint is not quite concave."""
    values, vectors = np.linalg.eigh(hessian)
    least = 1e-10 * max(1.0, float(np.abs(values).max()))
    return (vectors * np.maximum(np.abs(values), least)) @ vectors.T
