"""Powers and logarithms that the compiler can take of several transformers at once.

LLVM has no vector versions of its own of these functions, so a loop over transformers that calls them handles one at a
time. These are polynomials without branches, right to 1e-13 of what they return, and a loop over them is vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial

from evflex.engine.kernels import vector_inner_kernel
from evflex.engine.supply_tree import FloatArray

# Added to a number of moderate size, it leaves the nearest integer in the last bits of the sum.
_ROUNDER = 6755399441055744.0
_ROUNDER_BITS = int(np.float64(_ROUNDER).view(np.int64))
_EXPONENT_BIAS, _MANTISSA_BITS = 1023, 52
_ROOT_HALF = float(np.sqrt(0.5))
_ROOT_HALF_BITS = int(np.float64(_ROOT_HALF).view(np.int64))
# Beyond these, powers of two stay what they are there: far from anything a transformer does, and still normal numbers.
_LEAST_EXPONENT, _LARGEST_EXPONENT = -1000.0, 1000.0
LEAST_BASE = 1e-100


def _polynomial(function: Callable[[FloatArray], FloatArray], degree: int, low: float, high: float) -> list[float]:
    """Coefficients of a nearly best approximation on [low, high], constant first."""
    fitted = Chebyshev.interpolate(function, degree, [low, high])
    return fitted.convert(kind=Polynomial).coef.tolist()


def _log2_series(z: FloatArray) -> FloatArray:
    """log2((1 + s) / (1 - s)) / s as a function of z = s², which is what is left of a logarithm."""
    s = np.sqrt(z)
    return np.log2((1.0 + s) / (1.0 - s)) / s


_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9 = _polynomial(np.exp2, 9, -0.5, 0.5)
_L0, _L1, _L2, _L3, _L4, _L5 = _polynomial(_log2_series, 5, 0.0, ((1.0 - _ROOT_HALF) / (1.0 + _ROOT_HALF)) ** 2)
_R0, _R1, _R2, _R3 = _polynomial(lambda m: 1.0 / (m + 1.0), 3, _ROOT_HALF, 2.0 * _ROOT_HALF)


def _same_bits(taken: types.Type, given: types.Type) -> Callable[[Any], Any]:
    """A function of 8 bytes that kernels call: the same bytes as another type."""

    def typed(_context: Any, _value: Any) -> Any:
        def generate(target: Any, builder: ir.IRBuilder, _signature: Any, values: list[ir.Value]) -> ir.Value:
            return builder.bitcast(values[0], target.get_value_type(given))

        return given(taken), generate

    return cast("Callable[[Any], Any]", intrinsic(typed))


_bits = _same_bits(types.float64, types.int64)
_number = _same_bits(types.int64, types.float64)


@vector_inner_kernel
def exp2(exponent: float) -> float:
    """2 to the power of a number; exponents beyond ±1000 count as ±1000."""
    x = _LEAST_EXPONENT if exponent < _LEAST_EXPONENT else exponent
    x = _LARGEST_EXPONENT if x > _LARGEST_EXPONENT else x
    rounded = x + _ROUNDER
    f = x - (rounded - _ROUNDER)
    mantissa = _E0 + f * (
        _E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * (_E6 + f * (_E7 + f * (_E8 + f * _E9)))))))
    )
    return mantissa * _number((_bits(rounded) + _EXPONENT_BIAS) << _MANTISSA_BITS)


@vector_inner_kernel
def log2(number: float) -> float:
    """Logarithm to base 2; what is below 1e-100, 0 included, counts as 1e-100.

    With number = m 2^e and m between √½ and √2, it is e + log2((1 + s) / (1 - s)), s = (m - 1) / (m + 1). The
    reciprocal comes from a polynomial and two steps of Newton, because a division takes longer than all the rest.
    """
    bits = _bits(LEAST_BASE if number < LEAST_BASE else number)
    e = (bits - _ROOT_HALF_BITS) >> _MANTISSA_BITS
    m = _number(bits - (e << _MANTISSA_BITS))
    reciprocal = _R0 + m * (_R1 + m * (_R2 + m * _R3))
    reciprocal *= 2.0 - (m + 1.0) * reciprocal
    reciprocal *= 2.0 - (m + 1.0) * reciprocal
    s = (m - 1.0) * reciprocal
    z = s * s
    series = _L0 + z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * _L5))))
    return (_number(e + _ROUNDER_BITS) - _ROUNDER) + s * series
