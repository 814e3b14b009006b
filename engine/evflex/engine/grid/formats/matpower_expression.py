"""The few expressions that the statements at the end of MATPOWER's distribution cases are made of."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from evflex.engine.supply_tree import FloatArray

_TOKEN = re.compile(
    r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|mpc\.\w+|[A-Za-z]\w*|\.[*/^]|[-+*/^(),:\[\]])"
)
_FUNCTIONS = {"sin": np.sin, "cos": np.cos, "acos": np.arccos, "sqrt": np.sqrt}
_MAX_DEPTH = 20

Value = float | FloatArray


class ExpressionError(Exception):
    """A statement that is not evaluated; the message ends a sentence that begins with the statement."""


class Evaluator:
    """Names, and the matrices that expressions read and statements write."""

    def __init__(self, matrices: dict[str, FloatArray]) -> None:
        """Work on ``matrices``, in place."""
        self._matrices = matrices
        self._names: dict[str, Value] = {"pi": math.pi}

    def name(self, pairs: Iterable[tuple[str, float]]) -> None:
        """Give names to numbers."""
        self._names.update(pairs)

    def value(self, text: str) -> Value:
        """Value of an expression.

        Raises:
            ExpressionError: When it is none of those understood.
        """
        parser = _Parser(text, self._names, self._matrices)
        value = parser.sum(0)
        if parser.tokens:
            raise ExpressionError(f"holds {parser.tokens[0]!r}, which is not understood")
        return value

    def assign(self, matrix: str | None, columns: str | None, name: str | None, text: str) -> None:
        """Assign an expression to columns of a matrix, or to a name.

        Raises:
            ExpressionError: When the expression, or what it is assigned to, is not understood.
        """
        value = self.value(text)
        if name is not None:
            self._names[name] = value
            return
        assert matrix is not None
        assert columns is not None
        into = self._matrices.get(matrix)
        if into is None:
            raise ExpressionError(f"assigns to mpc.{matrix} before it is given")
        parser = _Parser(columns, self._names, self._matrices)
        at = parser.columns(into.shape[1])
        if parser.tokens:
            raise ExpressionError("assigns to columns that are not understood")
        if np.ndim(value) and np.shape(value) != (into.shape[0], len(at)):
            raise ExpressionError(f"assigns a matrix of shape {np.shape(value)} to {len(at)} columns")
        into[:, at] = value


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, names: dict[str, Value], matrices: dict[str, FloatArray]) -> None:
        self._names, self._matrices = names, matrices
        self.tokens: list[str] = []
        at = 0
        text = text.strip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise ExpressionError(f"holds {text[at : at + 20]!r}, which is not understood")
            self.tokens.append(token[1])
            at = token.end()

    def sum(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise ExpressionError("is nested too deep")
        value = self._product(depth)
        while self._next() in ("+", "-"):
            operator, right = self.tokens.pop(0), self._product(depth)
            value = self._apply(operator, value, right)
        return value

    def columns(self, width: int) -> list[int]:
        """Columns of a matrix, from 0: one, or several in brackets."""
        if self._next() != "[":
            return [self._position(self.sum(0), width)]
        self.tokens.pop(0)
        at = []
        while self._next() not in ("]", ""):
            at.append(self._position(self._primary(0), width))
            if self._next() == ",":
                self.tokens.pop(0)
        self._expect("]")
        return at

    def _product(self, depth: int) -> Value:
        value = self._power(depth)
        while self._next() in ("*", "/", ".*", "./"):
            operator, right = self.tokens.pop(0), self._power(depth)
            value = self._apply(operator, value, right)
        return value

    def _power(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise ExpressionError("is nested too deep")
        if self._next() in ("-", "+"):
            sign = -1.0 if self.tokens.pop(0) == "-" else 1.0
            return sign * self._power(depth + 1)
        value = self._primary(depth)
        while self._next() in ("^", ".^"):
            operator, right = self.tokens.pop(0), self._primary(depth)
            value = self._apply(operator, value, right)
        return value

    def _primary(self, depth: int) -> Value:
        token = self._next()
        if not token:
            raise ExpressionError("ends early")
        self.tokens.pop(0)
        if token == "(":
            value = self.sum(depth + 1)
            self._expect(")")
            return value
        if token in _FUNCTIONS:
            self._expect("(")
            argument = self.sum(depth + 1)
            self._expect(")")
            with np.errstate(all="ignore"):
                return _finite(_FUNCTIONS[token](argument))
        if token.startswith("mpc.") and token[4:] in self._matrices:
            return self._part(self._matrices[token[4:]])
        if token in self._names:
            return self._names[token]
        if token[0].isdigit() or token[0] == ".":
            return float(token)
        raise ExpressionError(f"holds {token!r}, which is not understood")

    def _part(self, matrix: FloatArray) -> Value:
        """``(:, columns)`` or ``(row, column)`` of a matrix."""
        self._expect("(")
        if self._next() == ":":
            self.tokens.pop(0)
            self._expect(",")
            at = self.columns(matrix.shape[1])
            self._expect(")")
            return matrix[:, at].copy()
        row = self._position(self.sum(0), matrix.shape[0])
        self._expect(",")
        column = self.columns(matrix.shape[1])
        self._expect(")")
        if len(column) != 1:
            raise ExpressionError("reads several columns of one row")
        return float(matrix[row, column[0]])

    @staticmethod
    def _apply(operator: str, left: Value, right: Value) -> Value:
        if np.ndim(left) and np.ndim(right):
            if operator in ("*", "/", "^"):
                raise ExpressionError("multiplies matrices")
            if np.shape(left) != np.shape(right):
                raise ExpressionError("joins matrices of different shape")
        elif operator in ("/", "^") and np.ndim(right):
            raise ExpressionError("multiplies matrices")
        with np.errstate(all="ignore"):
            match operator[-1]:
                case "+":
                    return _finite(np.add(left, right))
                case "-":
                    return _finite(np.subtract(left, right))
                case "*":
                    return _finite(np.multiply(left, right))
                case "/":
                    return _finite(np.divide(left, right))
                case _:
                    return _finite(np.power(left, right))

    @staticmethod
    def _position(value: Value, count: int) -> int:
        if np.ndim(value) or not math.isfinite(value) or value != int(value) or not 1 <= value <= count:
            raise ExpressionError(f"names a row or column that is not one of {count}")
        return int(value) - 1

    def _next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise ExpressionError(f"lacks {token!r}")
        self.tokens.pop(0)


def _finite(value: Value) -> Value:
    if not np.all(np.isfinite(value)):
        raise ExpressionError("gives a value that is not finite")
    return value if np.ndim(value) else float(value)
