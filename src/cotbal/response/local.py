"""Predictions around a point with their derivatives, as the choice of weights needs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cotbal.response.departure import Gradients, Hessians
from cotbal.response.response import Response
from cotbal.response.shapes import Coordinates, PerScore, PerTask
from cotbal.response.solver import Derivatives


@dataclass(frozen=True)
class Local:
    """Values, gradients and Hessians, by score, around a point in the basis of directions.

    Attributes:
        change: predicted change.
        variance: squared standard error of it.
    """

    change: Derivatives
    variance: Derivatives


def local_predictions(response: Response, coordinates: Coordinates) -> Local:
    """Predicted changes of all scores and their variances at a point in the basis of directions."""
    z = response.basis @ coordinates
    departure = response.departure
    value, first, second = departures = _lowered(
        response, departure(z), departure.gradient(z), departure.hessian(z)
    )
    slopes = response.mean[:, : len(coordinates)]
    curvature = response.curvature
    change = (
        slopes @ coordinates + curvature * value,
        slopes + curvature[:, None] * first,
        curvature[:, None, None] * second,
    )
    of_coefficients = _coefficient_variance(response, z, departures)
    of_share = _share_variance(response, z)
    value, first, second = (
        one + other for one, other in zip(of_coefficients, of_share, strict=True)
    )
    return Local(change, (value, first, second))


def _lowered(
    response: Response, value: PerScore, gradient: Gradients, hessian: Hessians
) -> Derivatives:
    """The same with derivatives in the basis of directions."""
    basis = response.basis
    return value, gradient @ basis, basis.T @ hessian @ basis


def _share_variance(response: Response, z: PerTask) -> Derivatives:
    """The part of the variance that the share of own weights in the curvature has."""
    departure = response.departure
    value, first, second = _lowered(
        response, departure.excess(z), departure.excess_gradient(z), departure.excess_hessian(z)
    )
    factor = (departure.error * response.curvature) ** 2
    products = np.einsum("si,sj->sij", first, first)
    variance = factor * value**2
    gradient = 2 * (factor * value)[:, None] * first
    curvature = products + value[:, None, None] * second
    hessian = 2 * factor[:, None, None] * curvature
    return variance, gradient, hessian


def _coefficient_variance(response: Response, z: PerTask, departures: Derivatives) -> Derivatives:
    """The part of the variance that the coefficients have."""
    _, first, second = departures
    size = first.shape[1]
    covariance = response.covariance
    features = response.features(z, response.departure)
    products = np.einsum("sij,sj->si", covariance, features)
    value = (products * features).sum(axis=1)
    # The gradient of the features is the identity, and below it that of the departure.
    gradient = 2 * products[:, :size]
    hessian = 2 * covariance[:, :size, :size]
    if not response.curved:
        return value, gradient, hessian
    of_curve = 2 * products[:, -1:]
    gradient += of_curve * first
    mixed = 2 * covariance[:, :size, -1:] * first[:, None, :]
    hessian += mixed
    hessian += mixed.transpose(0, 2, 1)
    hessian += 2 * covariance[:, -1:, -1:] * np.einsum("si,sj->sij", first, first)
    hessian += of_curve[:, :, None] * second
    return value, gradient, hessian
