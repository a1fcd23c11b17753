"""Names of the shapes that several modules share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

PerTask = Float[np.ndarray, " task"]
PerScore = Float[np.ndarray, " score"]
TrialTask = Float[np.ndarray, "trial task"]
TrialScore = Float[np.ndarray, "trial score"]
Coefficients = Float[np.ndarray, "score coefficient"]
Covariances = Float[np.ndarray, "score coefficient coefficient"]
Basis = Float[np.ndarray, "task direction"]
TrialColumn = Float[np.ndarray, "trial column"]
Features = Float[np.ndarray, "trial coefficient"]
