"""Hadamard matrices: square, entries of +1 and -1, orthogonal columns; the first column is +1.

By Paley's two constructions from the squares modulo a prime (Paley 1933), doubled by Sylvester's.
Together they give every multiple of 4 up to 48.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def hadamard(order: int) -> Int[np.ndarray, "order order"]:
    """A Hadamard matrix whose first row and column are +1.

    Args:
        order: 1, 2 or a multiple of 4 up to 48.

    Raises:
        ValueError: these constructions give no matrix of this order.
    """
    matrix = _construct(order)
    if matrix is None:
        raise ValueError(f"expected 1, 2 or a multiple of 4 up to 48; found {order}")
    matrix = matrix * matrix[:, :1]
    return matrix * matrix[:1]


def smallest_order(least: int) -> int:
    """The smallest order of a Hadamard matrix that is at least `least`."""
    if least <= 2:
        return max(least, 1)
    return -(-least // 4) * 4


def _construct(order: int) -> Int[np.ndarray, "order order"] | None:
    if order == 1:
        return np.ones((1, 1), dtype=int)
    if order % 2 == 0 and (half := _construct(order // 2)) is not None:
        return np.block([[half, half], [half, -half]])
    prime = order - 1
    if prime % 4 == 3 and _is_prime(prime):
        return _paley(prime, -1) + np.eye(order, dtype=int)
    prime = order // 2 - 1
    if order % 4 == 0 and prime % 4 == 1 and _is_prime(prime):
        core, one = _paley(prime, 1), np.eye(order // 2, dtype=int)
        return np.block([[core + one, core - one], [core - one, -core - one]])
    return None


def _paley(prime: int, sign: int) -> Int[np.ndarray, "order order"]:
    """The conference matrix of the quadratic residues modulo `prime`, of order `prime + 1`."""
    squares = {x * x % prime for x in range(1, prime)}
    character = np.array([0] + [1 if x in squares else -1 for x in range(1, prime)])
    places = np.arange(prime)
    matrix = np.zeros((prime + 1, prime + 1), dtype=int)
    matrix[0, 1:] = 1
    matrix[1:, 0] = sign
    matrix[1:, 1:] = character[(places[:, None] - places[None, :]) % prime]
    return matrix


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
