"""Powers and logarithms of kernels against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.capacity.powers import LEAST_BASE, exp2, log2
from evflex.engine.kernels import vector_kernel
from evflex.engine.supply_tree import FloatArray


@vector_kernel
def both(exponents: FloatArray, numbers: FloatArray, powers: FloatArray, logarithms: FloatArray) -> None:
    for i in range(exponents.shape[0]):
        powers[i] = exp2(exponents[i])
    for i in range(numbers.shape[0]):
        logarithms[i] = log2(numbers[i])


def taken(exponents: FloatArray, numbers: FloatArray) -> tuple[FloatArray, FloatArray]:
    powers, logarithms = np.empty_like(exponents), np.empty_like(numbers)
    both(exponents, numbers, powers, logarithms)
    return powers, logarithms


@pytest.mark.parametrize("reach", [1e-3, 1.0, 20.0, 1000.0])
def test_powers_of_two_are_right_to_13_digits(reach: float) -> None:
    exponents = np.concatenate([np.linspace(-reach, reach, 200_001), np.arange(-reach, reach)])
    powers, _ = taken(exponents, np.ones(1))
    np.testing.assert_allclose(powers, np.exp2(exponents), rtol=1e-13)


@pytest.mark.parametrize("reach", [1e-9, 1e-3, 1.0, 99.0])
def test_logarithms_are_right_to_13_digits(reach: float) -> None:
    numbers = 10.0 ** np.linspace(-reach, reach, 200_001)
    _, logarithms = taken(np.ones(1), numbers)
    np.testing.assert_allclose(logarithms, np.log2(numbers), rtol=1e-13, atol=1e-15)


def test_logarithms_near_root_half_and_at_powers_of_two_are_right() -> None:
    root = np.sqrt(0.5) * 2.0 ** np.arange(-20, 20)
    numbers = np.concatenate(
        [root, np.nextafter(root, 0.0), np.nextafter(root, np.inf), 2.0 ** np.arange(-300.0, 300.0)]
    )
    _, logarithms = taken(np.ones(1), numbers)
    np.testing.assert_allclose(logarithms, np.log2(numbers), rtol=1e-13, atol=1e-15)


def test_what_is_too_large_or_too_small_stays_finite() -> None:
    powers, logarithms = taken(np.array([-1e9, -1001.0, 1001.0, 1e9, np.inf]), np.array([0.0, 1e-200]))
    np.testing.assert_allclose(powers, [2.0**-1000, 2.0**-1000, 2.0**1000, 2.0**1000, 2.0**1000], rtol=1e-13)
    np.testing.assert_allclose(logarithms, np.log2(LEAST_BASE), rtol=1e-13)
