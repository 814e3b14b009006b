"""How compiled kernels are declared.

``kernel`` is called from Python; it releases the GIL and is cached on disk. ``inner_kernel`` is called from kernels
only and does without the wrapper that unpacks Python objects, which takes long to compile. It is inlined: a call counts
the references of every array that it passes, which took the session simplex half of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit

from evflex.engine.supply_tree import FloatArray, IntArray

_Function = TypeVar("_Function", bound=Callable[..., object])
_FUSED = {"contract", "nnan", "nsz"}
_CONTRACTED = {"contract"}


def kernel(function: _Function) -> _Function:
    """Compile a function that Python calls."""
    return cast("_Function", njit(cache=True, nogil=True, error_model="numpy")(function))


def inner_kernel(function: _Function) -> _Function:
    """Compile a function that only kernels call."""
    options = {
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
        "forceinline": True,
    }  # of Numba, but not in its stubs
    return cast("_Function", njit(cache=True, nogil=True, error_model="numpy", **options)(function))  # type: ignore[call-overload]


def vector_kernel(function: _Function) -> _Function:
    """Compile a function that Python calls, with arithmetic as in :func:`vector_inner_kernel`."""
    return cast("_Function", njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)(function))


def vector_inner_kernel(function: _Function) -> _Function:
    """Compile a function that only kernels call, with products and sums in one rounding.

    Half of the instructions of a polynomial fall away, and maxima need no look at what is no number. Sums keep their
    order, so results differ between processors in the last bit only.
    """
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
    return cast("_Function", njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED, **options)(function))  # type: ignore[call-overload]


def lane_kernel(function: _Function) -> _Function:
    """Compile a function that Python calls and that does the same for several lanes, products and sums in one rounding.

    What is no number stays one: a lane that diverges is told from one that does not.
    """
    return cast("_Function", njit(cache=True, nogil=True, error_model="numpy", fastmath=_CONTRACTED)(function))


def lane_inner_kernel(function: _Function) -> _Function:
    """Compile a function that only kernels call, with arithmetic as in :func:`lane_kernel`."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True, "fastmath": _CONTRACTED}
    return cast("_Function", njit(cache=True, nogil=True, error_model="numpy", **options)(function))  # type: ignore[call-overload]


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
