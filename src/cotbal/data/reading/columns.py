"""Columns of Arrow as arrays of numbers, and back.

pyarrow's `to_numpy` and `pa.array` import pandas wherever it is installed, which takes longer than
to plan.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """The numbers of a column without nulls."""
    return np.from_dlpack(column.combine_chunks())


def to_arrow(indices: np.ndarray) -> pa.Array:
    """Indices of rows for `take`."""
    numbers = np.ascontiguousarray(indices, np.int64)
    buffers = [None, pa.py_buffer(numbers)]  # no nulls
    return pa.Array.from_buffers(pa.int64(), len(numbers), buffers)
