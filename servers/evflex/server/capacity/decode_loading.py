"""Turns a measured or a forecast load of a transformer into power on its phases."""

from __future__ import annotations

from math import inf, isfinite

import numpy as np

from evflex.capacity.v1 import tracking_pb2, transformer_pb2
from evflex.engine.capacity.loading import at_quantile, phase_power
from evflex.engine.capacity.transformer import BaseLoad
from evflex.engine.supply_tree import FloatArray
from evflex.engine.validation import Rules
from evflex.server.fields import timestamp_s

_PHASES = 3


def decode_loading(
    rules: Rules,
    message: transformer_pb2.Loading,
    step_count: int | None,
    risk_quantile: float | None,
    path: str = "loading",
) -> BaseLoad:
    """Load of the transformer without hubs; no load where it has a fault, which is reported.

    Args:
        rules: Receives the faults.
        message: The load.
        step_count: Steps of the horizon; None where that is not known, and then any length will do.
        risk_quantile: Quantile of the forecast to be safe against; None for the highest given.
        path: Where the message stands in the request.
    """
    load = None
    if message.HasField("measured"):
        load = _measured(rules, message.measured, step_count or 1, f"{path}.measured")
        rules.check(risk_quantile is None, "risk_quantile", "goes with the quantiles of a forecast only")
    elif message.HasField("forecast"):
        load = _forecast(rules, message.forecast, step_count, risk_quantile, f"{path}.forecast")
    else:
        rules.check(False, path, "must be measured or forecast")
    return load or BaseLoad.balanced(np.zeros(step_count or 1))


def check_measurement(
    rules: Rules, message: transformer_pb2.MeasuredLoading | tracking_pb2.CapacityMeasurement, path: str
) -> bool:
    """Report currents, voltages or a power factor that make no sense; True when all is well."""
    before = len(rules.violations)
    rules.array(f"{path}.current_a", np.array(message.current_a), (_PHASES,), minimum=0.0)
    if rules.length(f"{path}.voltage_v", len(message.voltage_v), (_PHASES,)):
        for k, volts in enumerate(message.voltage_v):
            rules.check(0.0 < volts < inf, f"{path}.voltage_v[{k}]", f"must be finite and > 0, is {volts:g}")
    factor = message.power_factor
    rules.check(0.0 < abs(factor) <= 1.0, f"{path}.power_factor", f"must lie in [-1, 1] and not be 0, is {factor:g}")
    return len(rules.violations) == before


def _measured(rules: Rules, message: transformer_pb2.MeasuredLoading, step_count: int, path: str) -> BaseLoad | None:
    if message.HasField("measurement_time"):
        timestamp_s(rules, f"{path}.measurement_time", message.measurement_time)
    if not check_measurement(rules, message, path):
        return None
    voltage_v = np.array(message.voltage_v, dtype=np.float64)
    with np.errstate(over="ignore"):  # told as a fault
        phase_kw, phase_kvar = phase_power(np.array(message.current_a), voltage_v, message.power_factor)
    if not (np.isfinite(phase_kw).all() and np.isfinite(phase_kvar).all()):
        rules.check(False, f"{path}.current_a", "must give a finite power")
        return None
    return BaseLoad(
        np.repeat(phase_kw[None, :], step_count, axis=0),
        np.repeat(phase_kvar[None, :], step_count, axis=0),
        voltage_v,
    )


def _forecast(
    rules: Rules,
    message: transformer_pb2.ForecastLoading,
    step_count: int | None,
    risk_quantile: float | None,
    path: str,
) -> BaseLoad | None:
    before = len(rules.violations)
    quantiles = np.array(message.quantiles)
    _check_quantiles(rules, quantiles, risk_quantile, f"{path}.quantiles")
    rows = max(1, len(quantiles))
    cells = None if step_count is None else rows * step_count
    load_kw, load_kvar = np.array(message.load_kw), np.array(message.load_kvar)
    rules.array(f"{path}.load_kw", load_kw, None if cells is None else (cells,))
    rules.array(f"{path}.load_kvar", load_kvar, None if cells is None else (0, cells))
    if len(rules.violations) > before or cells is None:
        return None
    active_kw = _at_risk(load_kw.reshape(rows, -1), quantiles, risk_quantile)
    if not len(load_kvar):
        return BaseLoad.balanced(active_kw)
    return BaseLoad.balanced(active_kw, _at_risk(load_kvar.reshape(rows, -1), quantiles, risk_quantile))


def _check_quantiles(rules: Rules, quantiles: FloatArray, risk_quantile: float | None, path: str) -> None:
    for k, value in enumerate(quantiles.tolist()):
        inside = 0.0 < value < 1.0
        rules.check(inside, f"{path}[{k}]", f"must lie in (0, 1), is {value:g}")
        if inside and k:
            rules.check(not value <= quantiles[k - 1], f"{path}[{k}]", "must be larger than the one before")
    if risk_quantile is None:
        return
    if not isfinite(risk_quantile) or not 0.0 < risk_quantile < 1.0:
        rules.check(False, "risk_quantile", f"must lie in (0, 1), is {risk_quantile:g}")
    elif not len(quantiles):
        rules.check(False, "risk_quantile", "goes with the quantiles of a forecast only")
    else:
        least, most = quantiles[0], quantiles[-1]
        within = not (risk_quantile < least or risk_quantile > most)
        rules.check(within, "risk_quantile", f"must lie between {least:g} and {most:g}, the quantiles given")


def _at_risk(table: FloatArray, quantiles: FloatArray, risk_quantile: float | None) -> FloatArray:
    """Row of the quantile that is asked for, of the highest where none is."""
    row: FloatArray = table[-1]
    return row if risk_quantile is None else at_quantile(table, quantiles, risk_quantile)
