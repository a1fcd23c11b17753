"""Numbers as columns of Arrow.

pyarrow's `pa.array` imports pandas wherever it is installed, which takes longer than to plan; so
does its `to_numpy`, in place of which `np.from_dlpack` reads a column.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def to_arrow(indices: np.ndarray) -> pa.Array:
    """Indices of rows for `take`."""
    numbers = np.ascontiguousarray(indices, np.int64)
    buffers = [None, pa.py_buffer(numbers)]  # no nulls
    return pa.Array.from_buffers(pa.int64(), len(numbers), buffers)
