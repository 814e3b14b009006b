"""How compiled kernels are declared.

``kernel`` is called from Python; it releases the GIL and is cached on disk. ``inner_kernel`` is called from kernels
only and does without the wrapper that unpacks Python objects, which takes long to compile.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from evflex.engine.supply_tree import FloatArray, IntArray

kernel = njit(cache=True, nogil=True, error_model="numpy")
inner_kernel = njit(cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@inner_kernel
def argsort(values: FloatArray) -> IntArray:
    """Indices that sort ``values``, equal ones in their order: merge sort from runs of one.

    Numba's own takes several seconds to compile and gains nothing on arrays of a day's steps.
    """
    n = values.shape[0]
    order, spare = np.arange(n), np.empty(n, dtype=np.int64)
    width = 1
    while width < n:
        for begin in range(0, n, 2 * width):
            middle, end = min(begin + width, n), min(begin + 2 * width, n)
            left, right = begin, middle
            for at in range(begin, end):
                if left < middle and (right >= end or values[order[left]] <= values[order[right]]):
                    spare[at] = order[left]
                    left += 1
                else:
                    spare[at] = order[right]
                    right += 1
        order, spare = spare, order
        width *= 2
    return order
