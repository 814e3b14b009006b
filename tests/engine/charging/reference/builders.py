"""Problems written by hand: times in steps of the grid, everything else as in the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evflex.engine.charging.model import ScheduleProblem, Sessions, Tariff
from evflex.engine.supply_tree import PhaseConnection, SupplyNodes
from evflex.engine.timegrid import TimeGrid

START_UNIX_S = 1_730_804_400.0


def cars(
    arrive: Sequence[float],
    leave: Sequence[float],
    need: Sequence[float],
    *,
    step_s: float = 3600.0,
    max_kw: float | Sequence[float] = 10.0,
    **columns: object,
) -> Sessions:
    """Sessions that arrive and leave at the given steps (fractions allowed), in kWh and kW."""
    return Sessions.simple(
        arrival_unix_s=START_UNIX_S + step_s * np.asarray(arrive, dtype=float),
        departure_unix_s=START_UNIX_S + step_s * np.asarray(leave, dtype=float),
        energy_needed_kwh=np.asarray(need, dtype=float),
        max_charge_kw=np.broadcast_to(np.asarray(max_kw, dtype=float), (len(need),)),
        **columns,
    )


def site(
    sessions: Sessions,
    price: Sequence[float],
    *,
    step_s: float = 3600.0,
    limit_kw: float | Sequence[float] | None = None,
    fixed_kw: float | Sequence[float] | None = None,
    nodes: SupplyNodes | None = None,
    **tariff: object,
) -> ScheduleProblem:
    """A site with one price for each step; its tree is a root alone unless given."""
    if nodes is None:
        nodes = tree({"root": ""}, imports={"root": limit_kw}, fixed={"root": fixed_kw})
    return ScheduleProblem(
        TimeGrid(START_UNIX_S, step_s, len(price)),
        nodes,
        sessions,
        Tariff(import_price_per_kwh=np.asarray(price, dtype=float), **tariff),  # type: ignore[arg-type]
    )


Limit = float | Sequence[float] | None


def tree(
    parents: dict[str, str],
    *,
    imports: dict[str, Limit] | None = None,
    exports: dict[str, Limit] | None = None,
    agreements: dict[str, Limit] | None = None,
    current: dict[str, float] | None = None,
    fixed: dict[str, Limit] | None = None,
    fixed_phases: PhaseConnection = PhaseConnection.L1_L2_L3,
) -> SupplyNodes:
    """A tree from the parent of each node, with limits and fixed loads by node."""

    def rows(values: dict[str, Limit] | None) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
        given = {name: value for name, value in (values or {}).items() if value is not None}
        return tuple(np.atleast_1d(np.asarray(given.get(name, []), dtype=float)) for name in parents)

    return SupplyNodes(
        node_ids=tuple(parents),
        parent_node_ids=tuple(parents.values()),
        max_import_kw=rows(imports),
        max_export_kw=rows(exports),
        agreement_import_kw=rows(agreements),
        max_current_a=np.array([(current or {}).get(name, np.inf) for name in parents]),
        nominal_voltage_v=np.full(len(parents), 230.0),
        fixed_load_kw=rows(fixed),
        fixed_load_phases=np.full(len(parents), int(fixed_phases)),
    )
