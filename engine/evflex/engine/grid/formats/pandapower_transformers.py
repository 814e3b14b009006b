"""Two-winding transformers of pandapower networks.

pandapower 3.5, ``build_branch._calc_trafo_parameter`` and ``pd2ppc_zero._add_trafo_sc_impedance_zero``. The π and the
rated currents are those of :mod:`~evflex.engine.grid.formats.transformer_pi`; the shift is ``shift_degree`` and what
the taps add.

Taps, by ``tap_changer_type`` (for a second changer ``tap2_…``): "Ratio" and "Symmetrical" change the voltage of their
side by the phasor ``(pos − neutral)·tap_step_percent`` at the angle ``tap_step_degree``; "Ideal" only turns. **Without
a type a tap has no effect**, whatever its position; the notes name each transformer where that matters. Files of 2.x
have ``tap_phase_shifter`` instead. Tables of characteristics are refused.

In zero sequence Dyn is earthed at its to side through ``vk0, vkr0, mag0_percent, mag0_rx, si0_hv_partial`` as a T, YNyn
lets through, Yzn is earthed likewise with the factor 2/√3 that pandapower applies, Yy, Yd, Dy and Dd are open; other
groups are refused, as ``runpp_3ph`` does. An earthing impedance stands in series with its threefold value.
"""

from __future__ import annotations

import cmath
import math

from evflex.engine.grid.formats.builder import Branch, NetworkBuilder
from evflex.engine.grid.formats.pandapower_branches import OpenEnds, bus_of
from evflex.engine.grid.formats.pandapower_file import PandapowerNetwork
from evflex.engine.grid.formats.table import Row
from evflex.engine.grid.formats.transformer_pi import (
    RatingPlate,
    leakage_base,
    short_circuit,
    star_to_pi,
    transformer_branch,
)
from evflex.engine.grid.network import ZeroSequence

_OPEN_GROUPS = ("yy", "yd", "dy", "dd")
_ZERO_COLUMNS = ("vk0_percent", "vkr0_percent", "mag0_percent", "mag0_rx", "si0_hv_partial")
_YZN_FACTOR = 1.1547


def add_transformers(network: PandapowerNetwork, ends: OpenEnds) -> None:
    """Add the transformers."""
    builder = network.builder
    old = not network.source.table("trafo").has("tap_changer_type")
    for row in network.source.table("trafo"):
        hv, lv = bus_of(network, row, "hv_bus"), bus_of(network, row, "lv_bus")
        rated_mva, parallel = row.number("sn_mva", positive=True), float(row.whole("parallel", 1))
        factor, in_service = row.number("df", 1.0, positive=True), row.flag("in_service", True)
        plate_hv, plate_lv = row.number("vn_hv_kv", positive=True), row.number("vn_lv_kv", positive=True)
        if row.is_sound() and (parallel < 1.0 or hv == lv):
            row.fault(*(("parallel", "must be >= 1") if parallel < 1.0 else ("lv_bus", "must be another than hv_bus")))
        if not row.is_sound():
            continue
        taps = _taps(builder, row, plate_hv, plate_lv, old)
        if taps is None or not row.is_sound():
            continue
        plate = RatingPlate(
            rated_mva, plate_hv, plate_lv, *taps, row.number("vk_percent"), row.number("vkr_percent"),
            row.number("pfe_kw", 0.0), row.number("i0_percent", 0.0), parallel, factor,
            row.number("leakage_resistance_ratio_hv", 0.5), row.number("leakage_reactance_ratio_hv", 0.5),
        )  # fmt: skip
        if not row.is_sound():
            continue
        branch = transformer_branch(builder, f"trafo {row.id}", hv, lv, plate)
        if branch is None:
            builder.refused.append(row.refusal("has a short-circuit voltage that is 0 or below its real part"))
            continue
        cut = ends.get(("trafo", row.id), set())
        in_service &= network.live[hv] and network.live[lv]
        branch.from_closed, branch.to_closed = in_service and 0 not in cut, in_service and 1 not in cut
        if network.has_zero_sequence:
            base = leakage_base(builder, lv, plate)
            reason = _add_zero_sequence(row, branch, base, builder.ohm(hv) * branch.ratio**2, builder.ohm(lv))
            if reason:
                builder.refused.append(row.refusal(reason))
                continue
        if row.is_sound():
            builder.branches.append(branch)


def _taps(
    builder: NetworkBuilder, row: Row, vn_hv: float, vn_lv: float, old: bool
) -> tuple[float, float, float] | None:
    """Voltages of both sides and the shift in degrees, as the tap changers leave them; None when refused."""
    shift = row.number("shift_degree", 0.0)
    voltage = {"hv": vn_hv, "lv": vn_lv}
    if row.flag("tap_dependency_table", False) or row.flag("tap_dependent_impedance", False):
        builder.refused.append(row.refusal("depends on its tap by a table of characteristics, which is not read"))
        return None
    for changer in ("tap", "tap2"):
        side, kind = row.words(f"{changer}_side", ""), row.words(f"{changer}_changer_type", "")
        if old and row.given(f"{changer}_phase_shifter"):
            kind = "Ideal" if row.flag(f"{changer}_phase_shifter") else "Ratio"
        steps = row.number(f"{changer}_pos", math.nan) - row.number(f"{changer}_neutral", math.nan)
        percent, degree = row.number(f"{changer}_step_percent", 0.0), row.number(f"{changer}_step_degree", 0.0)
        if side not in voltage or math.isnan(steps) or steps == 0.0 or not row.is_sound():
            continue
        direction = 1.0 if side == "hv" else -1.0
        if kind in ("Ratio", "Symmetrical"):
            phasor = 1.0 + steps * percent / 100.0 * cmath.rect(1.0, math.radians(degree))
            voltage[side] *= abs(phasor)
            shift += direction * math.degrees(math.atan(phasor.imag / phasor.real)) if phasor.real else math.nan
            if phasor.real <= 0.0:
                row.fault(f"{changer}_pos", "must leave a voltage > 0")
        elif kind == "Ideal":
            sine = steps * percent / 200.0
            if (degree and percent) or abs(sine) > 1.0:
                row.fault(f"{changer}_step_percent", "must not be given with tap_step_degree, nor turn beyond 180°")
                continue
            shift += direction * (steps * degree if degree else 2.0 * math.degrees(math.asin(sine)))
        elif percent or degree:
            why = f"its type {kind!r} is none that changes a voltage" if kind else "it has no tap_changer_type"
            builder.notes.append(f"{row.element}: {changer} stands at {steps:+g} steps without effect, as {why}")
    return voltage["hv"], voltage["lv"], shift


def _add_zero_sequence(row: Row, branch: Branch, per_unit: float, ohm_hv: float, ohm_lv: float) -> str:
    """Fill in the zero sequence; a reason where it is not understood."""
    group = row.words("vector_group", "").lower()
    if not group:
        return "has no vector_group, by which zero-sequence current flows or not"
    if group in _OPEN_GROUPS:
        branch.zero_sequence = ZeroSequence.BLOCKED
        return ""
    if group not in ("dyn", "ynyn", "yzn"):
        return f"has the vector group {group!r}, whose zero sequence is not read (Dyn, YNyn, Yzn, Yy, Yd, Dy, Dd are)"
    if missing := [column for column in _ZERO_COLUMNS if not row.given(column)]:
        return f"has no {', '.join(missing)}, which its zero sequence needs"
    if group == "ynyn" and branch.shift_deg % 360.0:
        return "is a YNyn that turns the voltage, whose zero sequence is not read"
    # 0 stands for the positive-sequence value
    vk0 = row.number("vk0_percent") or row.number("vk_percent")
    vkr0 = row.number("vkr0_percent") or row.number("vkr_percent")
    leakage = short_circuit(vk0, vkr0, per_unit)
    if leakage is None:
        return "has a zero-sequence short-circuit voltage that is 0 or below its real part"
    ratio = row.number("mag0_rx")
    magnetising = abs(leakage) * row.number("mag0_percent") / 100.0 * complex(ratio, 1.0) / math.hypot(ratio, 1.0)
    # the neutral's impedance carries the current of three phases
    earthing = 3.0 * complex(row.number("rn_ohm", 0.0), row.number("xn_ohm", 0.0))
    leakage += earthing / (ohm_hv if group == "ynyn" else ohm_lv)
    share = row.number("si0_hv_partial")
    series, shunt_hv, shunt_lv = star_to_pi(share * leakage, (1.0 - share) * leakage, magnetising)
    if group == "ynyn":
        branch.series0, branch.shunt0_from, branch.shunt0_to = series, shunt_hv, shunt_lv
        return ""
    branch.zero_sequence = ZeroSequence.TO_EARTH
    if group == "dyn":
        admittance = 1.0 / series + shunt_lv
    else:
        admittance = _YZN_FACTOR * (1.0 / (series + 1.0 / shunt_hv) + shunt_lv)
    branch.series0 = 1.0 / admittance
    return ""
