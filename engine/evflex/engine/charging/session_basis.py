"""The working basis of the simplex of sessions, a row and a column for each tight limit, and its inverse.

Each change of the basis changes the inverse by one row, column or both; from time to time it is computed anew.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.session_problem import PIVOT, STAY, SharedProblem, State, row_sign
from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import FloatArray


@inner_kernel
def tight_column(s: SharedProblem, state: State, i: int, v: int, out: FloatArray) -> None:
    """Entries of a variable in the tight limits, its session's key eliminated; added to ``out``."""
    steps = s.price.shape[0]
    key = state.key[i]
    share = row_sign(steps, v) / row_sign(steps, key)
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g = s.group[k]
        if v < steps and state.place[g, v] >= 0:
            out[state.place[g, v]] += s.weight[k] / s.presence[i, v]
        if key < steps and state.place[g, key] >= 0:
            out[state.place[g, key]] -= share * s.weight[k] / s.presence[i, key]


@inner_kernel
def row_entry(s: SharedProblem, state: State, g: int, t: int, i: int, v: int) -> float:
    """Entry of a variable in limit (g, t), its session's key eliminated."""
    steps = s.price.shape[0]
    key = state.key[i]
    if v != t and key != t:
        return 0.0
    for k in range(s.session_start[i], s.session_start[i + 1]):
        if s.group[k] == g:
            entry = s.weight[k] / s.presence[i, t]
            if v == key:
                return 0.0
            return entry if v == t else -row_sign(steps, v) / row_sign(steps, key) * entry
    return 0.0


@inner_kernel
def refresh_inverse(s: SharedProblem, state: State) -> bool:
    """Invert the working basis anew."""
    size = state.size[0]
    if size == 0:
        return True
    basis = np.zeros((size, size))
    column = np.zeros(size)
    for e in range(size):
        column[:] = 0.0
        tight_column(s, state, state.extra[e, 0], state.extra[e, 1], column)
        basis[:, e] = column
    return _invert(basis, state.inverse)


@inner_kernel
def _invert(basis: FloatArray, out: FloatArray) -> bool:
    """Invert ``basis`` (destroyed) into the leading block of ``out``; Gauss–Jordan with row pivoting.

    Own loops: the matrix is small, and a call of a threaded BLAS costs more than the arithmetic.
    """
    size = basis.shape[0]
    inverse = np.eye(size)
    for c in range(size):
        p = c
        for r in range(c + 1, size):
            if abs(basis[r, c]) > abs(basis[p, c]):
                p = r
        if abs(basis[p, c]) < PIVOT:
            return False
        if p != c:
            for k in range(size):
                basis[p, k], basis[c, k] = basis[c, k], basis[p, k]
                inverse[p, k], inverse[c, k] = inverse[c, k], inverse[p, k]
        scale = 1.0 / basis[c, c]
        for k in range(size):
            basis[c, k] *= scale
            inverse[c, k] *= scale
        for r in range(size):
            factor = basis[r, c]
            if r != c and factor != 0.0:
                for k in range(size):
                    basis[r, k] -= factor * basis[c, k]
                    inverse[r, k] -= factor * inverse[c, k]
    out[:size, :size] = inverse
    return True


@inner_kernel
def swap_key(s: SharedProblem, state: State, m: int) -> int:
    """Make an extra of session m its key, and the old key an extra; returns the position.

    With e the new key, the columns of m's other extras lose a multiple of e's, and the old key's is a multiple of it.
    """
    size, steps = state.size[0], s.price.shape[0]
    at = -1
    for e in range(size):
        if state.extra[e, 0] == m and (
            at < 0 or abs(state.x[m, state.extra[e, 1]]) > abs(state.x[m, state.extra[at, 1]])
        ):
            at = e
    old, new = state.key[m], state.extra[at, 1]
    # W' = W·M with M = identity except in row `at`; the inverse takes the inverse row operation.
    state.inverse[at, :size] *= -row_sign(steps, new) / row_sign(steps, old)
    for e in range(size):
        if e != at and state.extra[e, 0] == m:
            share = row_sign(steps, state.extra[e, 1]) / row_sign(steps, old)
            for r in range(size):
                state.inverse[at, r] -= share * state.inverse[e, r]
    state.extra[at, 1] = old
    state.key[m] = new
    return at


@inner_kernel
def replace_column(state: State, at: int, column: FloatArray) -> int:
    """Inverse after column ``at`` of the working basis was replaced."""
    size = state.size[0]
    image = _times_column(state.inverse, column, size)
    if abs(image[at]) < PIVOT:
        return -1
    pivot_row = state.inverse[at, :size] / image[at]
    for e in range(size):
        if e != at and image[e] != 0.0:
            for r in range(size):
                state.inverse[e, r] -= image[e] * pivot_row[r]
    state.inverse[at, :size] = pivot_row
    return 0


@inner_kernel
def grow(s: SharedProblem, state: State, i: int, v: int, g: int, t: int, work: FloatArray, capacity: int) -> int:
    """Limit (g, t) becomes tight and the entering variable an extra: the inverse by bordering."""
    size = state.size[0]
    if size == capacity:
        return -1
    work[:size] = 0.0
    tight_column(s, state, i, v, work)
    row = np.zeros(size)
    for e in range(size):
        row[e] = row_entry(s, state, g, t, state.extra[e, 0], state.extra[e, 1])
    corner = row_entry(s, state, g, t, i, v)
    image = _times_column(state.inverse, work, size)
    left = _times_row(row, state.inverse, size)
    schur = corner
    for e in range(size):
        schur -= row[e] * image[e]
    if abs(schur) < PIVOT:
        return -1
    left /= schur
    for e in range(size):
        if image[e] != 0.0:
            for r in range(size):
                state.inverse[e, r] += image[e] * left[r]
        state.inverse[e, size] = -image[e] / schur
        state.inverse[size, e] = -left[e]
    state.inverse[size, size] = 1.0 / schur
    state.place[g, t] = size
    state.slack[g, t] = 0.0
    state.tight[size, 0], state.tight[size, 1] = g, t
    state.extra[size, 0], state.extra[size, 1] = i, v
    state.extras_of[i] += 1
    state.way[i, v] = STAY
    state.size[0] = size + 1
    return 0


@inner_kernel
def shrink(state: State, row: int, column: int) -> int:
    """Limit ``row`` is no longer tight and extra ``column`` has left: the inverse without them."""
    size = state.size[0]
    pivot = state.inverse[column, row]
    if abs(pivot) < PIVOT:
        return -1
    for e in range(size):
        if e != column and state.inverse[e, row] != 0.0:
            factor = state.inverse[e, row] / pivot
            for r in range(size):
                state.inverse[e, r] -= factor * state.inverse[column, r]
    last = size - 1
    state.place[state.tight[row, 0], state.tight[row, 1]] = -1
    state.price[state.tight[row, 0], state.tight[row, 1]] = 0.0
    # The last row and column take the free places.
    if row != last:
        state.inverse[:size, row] = state.inverse[:size, last]
        state.tight[row, 0], state.tight[row, 1] = state.tight[last, 0], state.tight[last, 1]
        state.place[state.tight[row, 0], state.tight[row, 1]] = row
    if column != last:
        state.inverse[column, :size] = state.inverse[last, :size]
        state.extra[column, 0], state.extra[column, 1] = state.extra[last, 0], state.extra[last, 1]
    state.size[0] = last
    return 0


@inner_kernel
def exchange_limits(s: SharedProblem, state: State, row: int, g: int, t: int) -> int:
    """Limit (g, t) becomes tight in place of limit ``row``: the inverse after a row was replaced."""
    size = state.size[0]
    entries = np.zeros(size)
    for e in range(size):
        entries[e] = row_entry(s, state, g, t, state.extra[e, 0], state.extra[e, 1])
    left = _times_row(entries, state.inverse, size)
    if abs(left[row]) < PIVOT:
        return -1
    column = state.inverse[:size, row] / left[row]
    for e in range(size):
        if column[e] != 0.0:
            for r in range(size):
                state.inverse[e, r] -= column[e] * left[r]
    state.inverse[:size, row] = column
    state.place[state.tight[row, 0], state.tight[row, 1]] = -1
    state.price[state.tight[row, 0], state.tight[row, 1]] = 0.0
    state.place[g, t] = row
    state.slack[g, t] = 0.0
    state.tight[row, 0], state.tight[row, 1] = g, t
    return 0


@inner_kernel
def _times_column(matrix: FloatArray, column: FloatArray, size: int) -> FloatArray:
    out = np.zeros(size)
    for r in range(size):
        if column[r] != 0.0:
            for e in range(size):
                out[e] += matrix[e, r] * column[r]
    return out


@inner_kernel
def _times_row(row: FloatArray, matrix: FloatArray, size: int) -> FloatArray:
    out = np.zeros(size)
    for e in range(size):
        if row[e] != 0.0:
            for r in range(size):
                out[r] += row[e] * matrix[e, r]
    return out
