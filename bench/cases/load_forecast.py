"""Forecasts of load a day and an hour ahead, beside seasonal-naive ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bench.instances import FloatArray
from bench.load_data import STEP_S, STEPS_A_DAY, Loads, residential, simbench_buses
from bench.registry import Outcome, Setting, case
from bench.seasonal_peers import last_week, pinball, same_slots
from bench.timing import shown, timed
from evflex.engine.load import LoadForecast, LoadForecastOptions, LoadForecastProblem, forecast_load
from evflex.engine.timegrid import TimeGrid

_QUANTILES = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
_LOW, _HIGH = 1, 7  # of 80 %
_HORIZONS = {"day": STEPS_A_DAY, "hour": 4}
# Days between origins visit all days of the week, and steps between them all times of the day.
_LAST_DAYS, _DAYS_APART, _STEPS_APART = 84, 12, 9 * STEPS_A_DAY + 31
_WEEKS = (4, 8)
_MANY = 1000
_OURS, _POINT = "evflex", "last week"
_ASKED_S = 30.0


@case(
    "load_forecast", "Forecast of load by meter history", sizes=(25, 118, _MANY), needs_data=True, domain="congestion"
)
def load_forecast(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "Origins spread over the last twelve weeks; each forecast is made afresh from what lies before its origin, "
        "on a year of quarter-hours, nine quantiles of 5 to 95 %, neither weather nor holidays. Pinball loss: the "
        "mean over meters, steps and quantiles.",
        "Peers: the same slot of last week taken for every quantile, and the quantiles of the same slot on days of the "
        "same kind (working day, Saturday, Sunday) over the last four weeks, or eight.",
    ])  # fmt: skip
    for loads in (residential(), simbench_buses()):
        for horizon in _HORIZONS:
            _compare(outcome, setting, loads, horizon)
    _time_many(outcome, setting, residential())
    return outcome


def _compare(outcome: Outcome, setting: Setting, loads: Loads, horizon: str) -> None:
    """Loss of ours and of the peers over all origins."""
    steps, end = _HORIZONS[horizon], loads.load_kw.shape[1]
    apart = _DAYS_APART * STEPS_A_DAY if horizon == "day" else _STEPS_APART
    origins = range(end - _LAST_DAYS * STEPS_A_DAY, end - steps + 1, apart)
    load_kw = loads.load_kw[:: setting.pick(1, 10)]
    losses: dict[str, list[float]] = {}
    covered, seconds = [], []
    for origin in list(origins)[: setting.pick(len(origins))]:
        history_kw, actual_kw = load_kw[:, :origin], load_kw[:, origin : origin + steps]
        made: list[LoadForecast] = []
        seconds.append(timed(partial(_forecast, made, loads, history_kw, steps, setting)))
        ours_kw = made[0].quantile_kw
        forecasts = {_OURS: ours_kw, _POINT: last_week(history_kw, steps, STEPS_A_DAY, _QUANTILES)}
        for weeks in _WEEKS:
            forecasts[f"{weeks} weeks"] = same_slots(
                history_kw, steps, STEPS_A_DAY, _QUANTILES, loads.first_weekday, weeks
            )
        for name, kw in forecasts.items():
            losses.setdefault(name, []).append(pinball(actual_kw, kw, _QUANTILES))
        covered.append(float(((actual_kw >= ours_kw[..., _LOW]) & (actual_kw <= ours_kw[..., _HIGH])).mean()))
    loss_kw = {name: float(np.mean(values)) for name, values in losses.items()}
    _report(outcome, loads.name, horizon, loss_kw, float(np.mean(covered)), len(covered))
    outcome.seconds[f"{loads.name}, {horizon} ahead"] = seconds


def _report(
    outcome: Outcome, name: str, horizon: str, loss_kw: dict[str, float], covered: float, origins: int
) -> None:  # fmt: skip
    key = f"{name.split()[0].lower()}_{horizon}"
    ours_kw = loss_kw[_OURS]
    best = min((other for other in loss_kw if other not in (_OURS, _POINT)), key=lambda other: loss_kw[other])
    outcome.add(
        f"{key}_point", f"{name}, {horizon} ahead: pinball loss over that of last week's slot",
        ours_kw / loss_kw[_POINT], at_most=1.0,
        peer=f"{ours_kw:.4g} beside {loss_kw[_POINT]:.4g} kW, {origins} origins",
    )  # fmt: skip
    outcome.add(
        f"{key}_quantiles", f"{name}, {horizon} ahead: the same over quantiles of the slot", ours_kw / loss_kw[best],
        at_most=1.0, peer=f"{ours_kw:.4g} beside {loss_kw[best]:.4g} kW of {best}",
    )  # fmt: skip
    outcome.add(f"{key}_coverage", f"{name}, {horizon} ahead: readings within the 80 % interval", covered, "%")
    outcome.details[key] = {"pinball_kw": loss_kw, "coverage_80": covered, "origins": origins}


def _time_many(outcome: Outcome, setting: Setting, loads: Loads) -> None:
    """A day ahead of 25 meters, and of a thousand, which are the same 25 again and again."""
    few, steps = len(loads.load_kw), STEPS_A_DAY
    for key, meters, at_most in (("few", few, _ASKED_S), ("many", setting.pick(_MANY, few), None)):
        history_kw = loads.load_kw[np.arange(meters) % few]
        made: list[LoadForecast] = []
        run: Callable[[], None] = partial(_forecast, made, loads, history_kw, steps, setting)
        seconds = [timed(run) for _ in range(setting.pick(3 if at_most else 1))]
        outcome.seconds[f"{meters} meters, a day ahead"] = seconds
        outcome.add(
            key, f"Seconds for a year of {meters} meters, back-test included", float(np.median(seconds)), "s",
            at_most=at_most, peer=f"fastest {shown(min(seconds))}",
        )  # fmt: skip


def _forecast(made: list[LoadForecast], loads: Loads, history_kw: FloatArray, steps: int, setting: Setting) -> None:
    end = history_kw.shape[1]
    history = TimeGrid(loads.start_unix_s, STEP_S, end)
    horizon = TimeGrid(history.end_unix_s, STEP_S, steps)
    names = tuple(str(i) for i in range(len(history_kw)))
    options = LoadForecastOptions(max_training_rows=2000) if setting.quick else LoadForecastOptions()
    made.append(forecast_load(LoadForecastProblem(history, history_kw, names, horizon, _QUANTILES), options))
