"""Names of the shapes that several modules share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

PerTask = Float[np.ndarray, " task"]
PerScore = Float[np.ndarray, " score"]
TrialTask = Float[np.ndarray, "trial task"]
TrialScore = Float[np.ndarray, "trial score"]
TaskScore = Float[np.ndarray, "task score"]
ScoreTask = Float[np.ndarray, "score task"]
Coefficient = Float[np.ndarray, " coefficient"]
Coefficients = Float[np.ndarray, "score coefficient"]
Covariance = Float[np.ndarray, "coefficient coefficient"]
Covariances = Float[np.ndarray, "score coefficient coefficient"]
Basis = Float[np.ndarray, "task direction"]
Coordinates = Float[np.ndarray, " direction"]  # in the basis of directions
OwnDirections = Float[np.ndarray, "score direction"]
TrialColumn = Float[np.ndarray, "trial column"]
Features = Float[np.ndarray, "trial coefficient"]
TrialIndices = Int[np.ndarray, " chosen"]
Blocks = Int[np.ndarray, " trial"]  # number of the seed of every trial
