"""What a caller sees: networks and forecasts of its tenant, in areas that it may use; of others there are none."""

from __future__ import annotations

from evflex.engine.validation import Rules
from evflex.server.caller import Caller
from evflex.server.errors import not_found
from evflex.server.fields import check_id, refuse
from evflex.server.store.forecasts import ForecastRow, ForecastStore
from evflex.server.store.networks import NetworkRow, NetworkStore


def visible_network(store: NetworkStore, caller: Caller, network_id: str) -> NetworkRow:
    """A network that the caller names.

    Raises:
        ServiceError: INVALID_ARGUMENT, it names none; NOT_FOUND.
    """
    _check(network_id, "network_id")
    row = store.find(caller.tenant_id, network_id)
    if row is None or not caller.may_use_area(row.area_id):
        raise not_found("network", network_id)
    return row


def visible_forecast(store: ForecastStore, caller: Caller, forecast_id: str) -> ForecastRow:
    """A forecast that the caller names.

    Raises:
        ServiceError: INVALID_ARGUMENT, it names none; NOT_FOUND.
    """
    _check(forecast_id, "forecast_id")
    row = store.get(caller.tenant_id, forecast_id)
    if not caller.may_use_area(row.area_id):
        raise not_found("forecast", forecast_id)
    return row


def _check(name: str, field: str) -> None:
    rules = Rules()
    check_id(rules, field, name, required=True)
    refuse(rules)
