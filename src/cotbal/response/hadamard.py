"""Hadamard matrices: square, entries of +1 and -1, orthogonal columns; the first column is +1.

By Paley's two constructions from the squares modulo a prime (Paley 1933), doubled by Sylvester's.
Together they give every multiple of 4 up to 48.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int

Matrix = Int[np.ndarray, "order order"]


def hadamard(order: int) -> Matrix:
    """A Hadamard matrix whose first row and column are +1.

    Args:
        order: 1, 2 or a multiple of 4 up to 48.

    Raises:
        ValueError: these constructions give no matrix of this order.
    """
    matrix = _construct(order)
    if matrix is None:
        raise ValueError(f"expected 1, 2 or a multiple of 4 up to 48; found {order}")
    first_column = matrix[:, :1]
    matrix = matrix * first_column
    first_row = matrix[:1]
    return matrix * first_row


def smallest_order(least: int) -> int:
    """The smallest order of a Hadamard matrix that is at least `least`."""
    if least <= 2:
        return max(least, 1)
    return least + -least % 4


def _construct(order: int) -> Matrix | None:
    if order == 1:
        return np.ones((1, 1), dtype=int)
    if order % 2 == 0:
        half = _construct(order // 2)
        if half is not None:
            return _blocks(half, half, -half)
    if order % 4 == 0:
        return _paley(order)
    return None


def _paley(order: int) -> Matrix | None:
    """Paley's first construction, or his second for the half of `order`."""
    if _is_prime(order - 1):
        one = np.eye(order, dtype=int)
        return _conference(order, -1) + one
    half = order // 2
    if half % 4 == 2 and _is_prime(half - 1):
        one = np.eye(half, dtype=int)
        core = _conference(half, 1)
        return _blocks(core + one, core - one, -core - one)
    return None


def _blocks(first: Matrix, mixed: Matrix, last: Matrix) -> Matrix:
    """`[[first, mixed], [mixed, last]]`."""
    upper = np.hstack([first, mixed])
    lower = np.hstack([mixed, last])
    return np.vstack([upper, lower])


def _conference(order: int, sign: int) -> Matrix:
    """The conference matrix of the squares modulo the prime `order - 1`.

    Args:
        order: one above an odd prime.
        sign: of the first column.
    """
    prime = order - 1
    character = np.full(prime, -1)
    character[0] = 0
    for x in range(1, prime):
        square = x * x % prime
        character[square] = 1
    numbers = np.arange(prime)
    differences = np.subtract.outer(numbers, numbers)
    matrix = np.zeros((order, order), dtype=int)
    matrix[0, 1:] = 1
    matrix[1:, 0] = sign
    matrix[1:, 1:] = character[differences % prime]
    return matrix


def _is_prime(number: int) -> bool:
    divisors = range(2, math.isqrt(number) + 1)
    return number > 1 and all(number % divisor for divisor in divisors)
