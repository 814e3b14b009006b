"""The text of a MATPOWER case file: assignments to ``mpc`` and the few statements that distribution cases end with.

MATPOWER user's manual 8.0, appendix B (data file format, version 2). Evaluated are: ``mpc.field =`` number, text,
matrix or cells; names given to columns (``[PQ, …] = idx_bus``, ``idx_brch``, ``idx_gen``, ``define_constants``);
scalars (``Vbase = mpc.bus(1, BASE_KV) * 1e3``); and columns (``mpc.bus(:, [PD, QD]) = …``), where an
expression is made of numbers, those names, ``+ − * / ^ .* ./``, ``sin``, ``cos``, ``acos`` and ``sqrt``. Any other
statement is refused with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evflex.engine.grid.formats.imported import Refusal
from evflex.engine.grid.formats.matpower_expression import Evaluator, ExpressionError
from evflex.engine.supply_tree import FloatArray
from evflex.engine.validation import Rules

MATRICES = ("bus", "gen", "branch", "gencost", "dcline", "areas")
_COLUMN_NAMES = {
    "idx_bus": "PQ PV REF NONE BUS_I BUS_TYPE PD QD GS BS BUS_AREA VM VA BASE_KV ZONE VMAX VMIN LAM_P LAM_Q MU_VMAX "
    "MU_VMIN",
    "idx_brch": "F_BUS T_BUS BR_R BR_X BR_B RATE_A RATE_B RATE_C TAP SHIFT BR_STATUS PF QF PT QT MU_SF MU_ST ANGMIN "
    "ANGMAX MU_ANGMIN MU_ANGMAX",
    "idx_gen": "GEN_BUS PG QG QMAX QMIN VG MBASE GEN_STATUS PMAX PMIN MU_PMAX MU_PMIN MU_QMAX MU_QMIN PC1 PC2 QC1MIN "
    "QC1MAX QC2MIN QC2MAX RAMP_AGC RAMP_10 RAMP_30 RAMP_Q APF",
}  # fmt: skip
_POSITIONS = {
    "idx_bus": [1, 2, 3, 4, *range(1, 14), 14, 15, 16, 17],
    "idx_brch": [*range(1, 12), 14, 15, 16, 17, 18, 19, 12, 13, 20, 21],
    "idx_gen": [*range(1, 11), 22, 23, 24, 25, *range(11, 22)],
}
_FIELD = re.compile(r"^mpc\.(\w+)\s*=\s*(.*)$", re.DOTALL)
_NAMES = re.compile(r"^\[([\w\s,]+)\]\s*=\s*(idx_\w+)$")
_TARGET = re.compile(r"^(?:mpc\.(bus|gen|branch)\s*\(\s*:\s*,(.+?)\)|([A-Za-z]\w*))\s*=(?!=)(.*)$", re.DOTALL)
_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|\.\.\.|[%#\[\](){};,]|[^'\"%#\[\](){};,.]+|.")


@dataclass(slots=True)
class CaseText:
    """What a case file says.

    Attributes:
        matrices: ``mpc.bus`` and the others that were given, each rectangular.
        matrix_lines: The line at which each row of a matrix stands.
        base_mva: NaN where it is missing.
        version: The format's version, empty where it is missing.
        refused: Statements that were not understood.
        other_fields: Fields of ``mpc`` that are not read.
    """

    matrices: dict[str, FloatArray] = field(default_factory=dict)
    matrix_lines: dict[str, list[int]] = field(default_factory=dict)
    base_mva: float = float("nan")
    version: str = ""
    refused: list[Refusal] = field(default_factory=list)
    other_fields: list[str] = field(default_factory=list)


def read_case_text(text: str, rules: Rules, file: str) -> CaseText:
    """Read the text of a case file; faults of numbers go to ``rules``, with the line."""
    case = CaseText()
    evaluator = Evaluator(case.matrices)
    for line, statement in _statements(text):
        if re.match(r"^(function\b.*|end|return|endfunction)$", statement):
            continue
        assigned = _FIELD.match(statement)
        try:
            if assigned is not None:
                _assign_field(case, evaluator, assigned[1], assigned[2].strip(), line, rules, file)
            elif statement == "define_constants":
                for source in _COLUMN_NAMES:
                    evaluator.name(zip(_COLUMN_NAMES[source].split(), _POSITIONS[source], strict=True))
            elif (names := _NAMES.match(statement)) and names[2] in _POSITIONS:
                evaluator.name(zip(re.split(r"[\s,]+", names[1].strip(" ,")), _POSITIONS[names[2]], strict=False))
            elif target := _TARGET.match(statement):
                evaluator.assign(target[1], target[2], target[3], target[4])
            else:
                raise ExpressionError("is no assignment")
        except ExpressionError as error:
            told = " ".join(statement.split())
            case.refused.append(Refusal(f"line {line}", f"the statement {told[:80]!r} {error}"))
    return case


def _assign_field(
    case: CaseText, evaluator: Evaluator, name: str, value: str, line: int, rules: Rules, file: str
) -> None:
    if name == "version":
        case.version = value.strip("'\"")
    elif name == "baseMVA":
        number = evaluator.value(value)
        case.base_mva = float(number) if np.ndim(number) == 0 else float("nan")
        evaluator.name([("mpc.baseMVA", case.base_mva)])
    elif name in MATRICES:
        if not (value.startswith("[") and value.endswith("]")):
            raise ExpressionError("does not assign a matrix in brackets")
        case.matrices[name], case.matrix_lines[name] = _matrix(value[1:-1], line, rules, f"{file}: mpc.{name}")
    else:
        case.other_fields.append(name)


def _matrix(inner: str, line: int, rules: Rules, path: str) -> tuple[FloatArray, list[int]]:
    rows: list[list[float]] = []
    lines: list[int] = []
    for offset, text_line in enumerate(inner.split("\n")):
        for row_text in text_line.split(";"):
            cells = row_text.replace(",", " ").split()
            if not cells:
                continue
            try:
                row = [float(cell) for cell in cells]
            except ValueError:
                rules.check(
                    False, f"{path} line {line + offset}", f"must hold numbers, holds {row_text.strip()[:60]!r}"
                )
                continue
            if rows and len(row) != len(rows[0]):
                rules.check(
                    False, f"{path} line {line + offset}", f"must have {len(rows[0])} columns, has {len(row)}"
                )  # fmt: skip
                continue
            rows.append(row)
            lines.append(line + offset)
    width = len(rows[0]) if rows else 0
    return np.array(rows, dtype=np.float64).reshape(len(rows), width), lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Statements without comments, each with the line where it begins.

    One ends at a semicolon, comma or line break outside of brackets, and goes on after ``...``; within brackets line
    breaks are kept, as they part the rows of a matrix.
    """
    depth, begun, pieces, commented = 0, 0, list[str](), False
    for number, raw in enumerate(text.splitlines(), start=1):
        bare = raw.strip()
        commented |= bare in ("%{", "#{")
        continued = False
        for token in () if commented else _TOKEN.findall(raw):
            if token in ("%", "#", "..."):
                continued = token == "..."
                break
            depth = max(0, depth + (token in "[({") - (token in "])}"))
            if depth == 0 and token in ";,":
                if pieces:
                    yield begun, "".join(pieces).strip()
                pieces = []
            elif pieces or token.strip():
                begun = begun if pieces else number
                pieces.append(token)
        commented &= bare not in ("%}", "#}")
        if continued or depth:
            pieces.append(" " if continued else "\n")
        elif pieces:
            yield begun, "".join(pieces).strip()
            pieces = []
    if pieces:
        yield begun, "".join(pieces).strip()
