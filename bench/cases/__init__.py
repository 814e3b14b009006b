"""The cases; importing this package fills the registry, in the order of the report."""

from bench.cases import one_site, switching, scale, many_sites, rpc, real_days, ranking, phases  # noqa: F401, I001 the order
from bench.cases import dispatch_scale, dispatch_objective, dispatch_feeders, dispatch_served  # noqa: F401 the order
from bench.cases import capacity_rating, capacity_tracking, capacity_booking, capacity_allocation, capacity_residential  # noqa: F401 the order
from bench.cases import power_flow, losses, congestion, congestion_year, load_forecast  # noqa: F401 the order
from bench.cases import activation_batch, activation_sessions, activation_served  # noqa: F401 the order
