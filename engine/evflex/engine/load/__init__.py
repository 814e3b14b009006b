"""Load to come, from meters: quantiles for the day ahead and within the day."""

from evflex.engine.load.forecast import forecast_load
from evflex.engine.load.model import Calendar, DayType, LoadForecastOptions, LoadForecastProblem, WeatherColumn
from evflex.engine.load.result import BackTest, FallbackReason, ForecastMethod, LoadForecast

__all__ = [
    "BackTest",
    "Calendar",
    "DayType",
    "FallbackReason",
    "ForecastMethod",
    "LoadForecast",
    "LoadForecastOptions",
    "LoadForecastProblem",
    "WeatherColumn",
    "forecast_load",
]
