"""Two-winding transformers of power-grid-model.

Its documentation ("Transformer") and ``component/transformer.hpp``: with the rated voltages ``u1``, ``u2`` as the tap
leaves them, on the to side's base, ``|z| = uk·u2²/sn``, ``r = pk·u2²/sn²``, the shunt ``|y| = i0·sn/u2²``,
``g = p0/u2²``, half of it at each end, and the ratio ``(u1/u2)/(u1_rated/u2_rated)`` at ``clock``·30°. A tap moves
``u`` of its side by ``tap_size`` a step, and uk and pk between their values at the ends. Rated is ``sn``.

In zero sequence, with the threefold grounding impedance in series (that of the from side divided by the squared ratio):
YNyn lets through, Dyn is earthed at the to side and YNd at the from side by z with the whole shunt beside it; a zigzag
winding with neutral is earthed by a tenth of z; all else is open. Refused are YNyn at the clocks 2, 6 and 10, which
turn zero sequence round, and ZNzn and ZNyn, which are earthed at both sides, as the model of a branch cannot be.
"""

from __future__ import annotations

import math

from evflex.engine.grid.formats.builder import Branch, NetworkBuilder
from evflex.engine.grid.formats.table import Row
from evflex.engine.grid.network import BranchKind, ZeroSequence

_WYE, _WYE_N, _DELTA, _ZIGZAG, _ZIGZAG_N = range(5)
_TURNED_CLOCKS = (2, 6, 10)


def add_transformer(builder: NetworkBuilder, row: Row, from_bus: int, to_bus: int, closed: tuple[bool, bool]) -> None:
    """Add a transformer."""
    voltages = [row.number("u1", positive=True), row.number("u2", positive=True)]
    rated, clock = row.number("sn", positive=True), row.whole("clock")
    side, size = row.whole("tap_side"), row.number("tap_size", 0.0)
    windings = row.whole("winding_from"), row.whole("winding_to")
    low, high, nominal = row.whole("tap_min"), row.whole("tap_max"), row.whole("tap_nom", 0)
    position = min(max(row.whole("tap_pos", nominal), min(low, high)), max(low, high))
    uk, pk = (_at_tap(row, name, position, low, high, nominal) for name in ("uk", "pk"))
    no_load, iron = row.number("i0"), row.number("p0")
    for column, value, most in (
        ("clock", clock, 12), ("tap_side", side, 1), ("winding_from", windings[0], 4), ("winding_to", windings[1], 4),
    ):  # fmt: skip
        if row.is_sound() and not 0 <= value <= most:
            row.fault(column, f"must lie between 0 and {most}")
    if not row.is_sound():
        return
    voltages[side] += (1 if high > low else -1) * (position - nominal) * size
    u1, u2 = voltages
    if u1 <= 0.0 or u2 <= 0.0:
        row.fault("tap_pos", "must leave a voltage > 0")
        return
    to_ohm = u2 * u2 / rated
    r = pk * to_ohm / rated
    x = math.copysign(math.sqrt(max(0.0, (uk * to_ohm) ** 2 - r * r)), uk)
    g = iron / (u2 * u2)
    b = -math.sqrt(max(0.0, (no_load * rated / (u2 * u2)) ** 2 - g * g))
    base = builder.ohm(to_bus)
    series, shunt = complex(r, x) / base, complex(g, b) * base
    if series == 0.0:
        builder.refused.append(row.refusal("has no impedance"))
        return
    ratio = (u1 / u2) / (builder.nominal_kv(from_bus) / builder.nominal_kv(to_bus))
    branch = Branch(
        f"transformer {row.id}", BranchKind.TRANSFORMER, from_bus, to_bus, series, shunt / 2.0, shunt / 2.0, ratio,
        30.0 * (clock % 12), *closed, rated_kva=rated / 1000.0,
    )  # fmt: skip
    if builder.phase_count == 3:
        grounding = [
            3.0 * complex(row.number(f"r_grounding_{end}", 0.0), row.number(f"x_grounding_{end}", 0.0)) / ohm
            for end, ohm in (("from", builder.ohm(from_bus) * ratio * ratio), ("to", base))
        ]
        if not row.is_sound():
            return
        if reason := _add_zero_sequence(branch, windings, clock, shunt, *grounding):
            builder.refused.append(row.refusal(reason))
            return
    builder.branches.append(branch)


def _add_zero_sequence(
    branch: Branch, windings: tuple[int, int], clock: int, shunt: complex, from_earth: complex, to_earth: complex
) -> str:
    """Fill in the zero sequence; a reason where the model has no path for it."""
    if windings in ((_ZIGZAG_N, _ZIGZAG_N), (_ZIGZAG_N, _WYE_N)):
        return "is earthed at both sides without a path between them, which is not read"
    if windings == (_WYE_N, _WYE_N):
        if clock in _TURNED_CLOCKS:
            return f"is a YNyn at clock {clock}, whose zero sequence is not read"
        branch.series0 = branch.series + from_earth + to_earth
        branch.shunt0_from = branch.shunt0_to = shunt / 2.0
    elif windings == (_WYE_N, _DELTA):
        branch.zero_sequence = ZeroSequence.FROM_EARTH
        branch.series0 = 1.0 / (1.0 / branch.series + shunt) + from_earth
    elif windings == (_DELTA, _WYE_N):
        branch.zero_sequence = ZeroSequence.TO_EARTH
        branch.series0 = 1.0 / (1.0 / branch.series + shunt) + to_earth
    elif windings[0] == _ZIGZAG_N:
        branch.zero_sequence, branch.series0 = ZeroSequence.FROM_EARTH, 0.1 * branch.series + from_earth
    elif windings[1] == _ZIGZAG_N:
        branch.zero_sequence, branch.series0 = ZeroSequence.TO_EARTH, 0.1 * branch.series + to_earth
    else:
        branch.zero_sequence = ZeroSequence.BLOCKED
    return ""


def _at_tap(row: Row, name: str, position: int, low: int, high: int, nominal: int) -> float:
    """A value at the tap's position, between those at the nominal tap and at the end on its side."""
    value = row.number(name)
    towards_high = min(nominal, high) <= position <= max(nominal, high)
    end, column = (high, f"{name}_max") if towards_high else (low, f"{name}_min")
    if end == nominal:
        return value
    return value + (row.number(column, value) - value) * (position - nominal) / (end - nominal)
