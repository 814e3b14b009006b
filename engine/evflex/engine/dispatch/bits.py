"""Positions of set bits, one machine instruction each; Numba offers none to kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _instruction(emit: Callable[[ir.IRBuilder, ir.Value], ir.Value]) -> Callable[[np.uint64], np.uint64]:
    """A function of a word that kernels call, written as LLVM instructions."""

    def typed(_context: Any, _word: Any) -> Any:
        def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, words: list[ir.Value]) -> ir.Value:
            return emit(builder, words[0])

        return types.uint64(types.uint64), generate

    return cast("Callable[[np.uint64], np.uint64]", intrinsic(typed))


def _lowest(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    return builder.cttz(word, ir.Constant(ir.IntType(1), 1))


def _highest(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    return builder.sub(ir.Constant(word.type, 63), builder.ctlz(word, ir.Constant(ir.IntType(1), 1)))


# Index of the lowest and of the highest set bit of a word, which must not be 0.
lowest_bit = _instruction(_lowest)
highest_bit = _instruction(_highest)
