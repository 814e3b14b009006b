"""The π of a two-winding transformer from its rating plate, as pandapower and SimBench give it.

All in pu of the low-voltage bus, with the voltages ``vn`` that the taps leave (pandapower 3.5,
``build_branch._calc_r_x_y_from_dataframe``):

- ``z = vk/100 · (vn_lv/kv_lv)² · S_base/S_n``, ``r`` likewise of ``vkr``, ``x = √(z² − r²)``, each by ``parallel``;
- no-load: ``g = pfe/S_base · (kv_lv/vn_lv)²``, ``b = −√((i0/100·S_n)² − pfe²)/S_base · …``, in the middle of a T whose
  legs share r and x, half and half unless told otherwise, turned into a π;
- ``ratio = (vn_hv/vn_lv)/(kv_hv/kv_lv)``.

Rated is the current of each side, ``S_n·df·parallel/(√3·vn)`` of the plate's voltages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from evflex.engine.grid.formats.builder import Branch, NetworkBuilder
from evflex.engine.grid.network import BranchKind


@dataclass(frozen=True, slots=True)
class RatingPlate:
    """What is known of a transformer.

    Attributes:
        rated_mva: Rated power of one, > 0.
        hv_kv: Rated voltage of the high-voltage side, > 0.
        lv_kv: Rated voltage of the low-voltage side, > 0.
        tapped_hv_kv: The same as the taps leave it.
        tapped_lv_kv: The same as the taps leave it.
        shift_deg: Angle by which the high-voltage side leads, with what the taps add.
        short_circuit_percent: Short-circuit voltage.
        short_circuit_real_percent: Its real part.
        iron_kw: Iron losses.
        no_load_percent: No-load current.
        parallel: Transformers side by side, >= 1.
        rating_factor: Of the rated current, > 0.
        r_share: Part of the resistance on the high-voltage side of the T.
        x_share: Part of the reactance there.
    """

    rated_mva: float
    hv_kv: float
    lv_kv: float
    tapped_hv_kv: float
    tapped_lv_kv: float
    shift_deg: float
    short_circuit_percent: float
    short_circuit_real_percent: float
    iron_kw: float
    no_load_percent: float
    parallel: float = 1.0
    rating_factor: float = 1.0
    r_share: float = 0.5
    x_share: float = 0.5


def transformer_branch(builder: NetworkBuilder, branch_id: str, hv: int, lv: int, plate: RatingPlate) -> Branch | None:
    """The branch from the high to the low-voltage bus; None where the short-circuit voltage makes no impedance."""
    series = short_circuit(
        plate.short_circuit_percent, plate.short_circuit_real_percent, leakage_base(builder, lv, plate)
    )
    if series is None:
        return None
    kv_hv, kv_lv = builder.nominal_kv(hv), builder.nominal_kv(lv)
    reactive = max(0.0, (plate.no_load_percent / 100.0 * plate.rated_mva * 1000.0) ** 2 - plate.iron_kw**2)
    no_load = complex(plate.iron_kw, -math.sqrt(reactive)) / builder.base_kva
    no_load *= plate.parallel * (kv_lv / plate.tapped_lv_kv) ** 2
    shunt_hv = shunt_lv = 0j
    if no_load != 0.0:
        leg_hv = complex(series.real * plate.r_share, series.imag * plate.x_share)
        series, shunt_hv, shunt_lv = star_to_pi(leg_hv, series - leg_hv, 1.0 / no_load)
    rated_a_kv = 1000.0 * plate.rated_mva * plate.rating_factor * plate.parallel / math.sqrt(3.0)
    ratio = (plate.tapped_hv_kv / plate.tapped_lv_kv) / (kv_hv / kv_lv)
    return Branch(
        branch_id, BranchKind.TRANSFORMER, hv, lv, series, shunt_hv, shunt_lv, ratio, plate.shift_deg,
        rated_from_a=rated_a_kv / plate.hv_kv, rated_to_a=rated_a_kv / plate.lv_kv,
    )  # fmt: skip


def leakage_base(builder: NetworkBuilder, lv: int, plate: RatingPlate) -> float:
    """Impedance in pu of a short-circuit voltage of 1."""
    scale = (plate.tapped_lv_kv / builder.nominal_kv(lv)) ** 2
    return scale * builder.base_kva / (1000.0 * plate.rated_mva) / plate.parallel


def short_circuit(percent: float, real_percent: float, base: float) -> complex | None:
    """Impedance of a short-circuit voltage and its real part; None where there is none."""
    z, r = percent / 100.0 * base, real_percent / 100.0 * base
    if z == 0.0 or not abs(z) >= abs(r):
        return None
    return complex(r, math.copysign(math.sqrt(z * z - r * r), z))


def star_to_pi(leg_from: complex, leg_to: complex, leg_earth: complex) -> tuple[complex, complex, complex]:
    """Series impedance and shunt admittances of the π that a T of three impedances equals."""
    total = leg_from * leg_to + (leg_from + leg_to) * leg_earth
    return total / leg_earth, leg_to / total, leg_from / total
