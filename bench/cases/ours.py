"""Our side of a measurement."""

from __future__ import annotations

from bench.instances import Site
from evflex.engine.charging import Schedule, ScheduleOptions, optimize_schedule


class Planned:
    """Plans a site as often as it is called, keeps the last schedule and checks each."""

    def __init__(self, site: Site, options: ScheduleOptions) -> None:
        self.site = site
        self.options = options
        self.problem = site.problem()
        self.faults: set[str] = set()
        self._last: Schedule | None = None

    def __call__(self) -> Schedule:
        self._last = optimize_schedule(self.problem, self.options)
        return self._last

    @property
    def schedule(self) -> Schedule:
        """The last schedule."""
        return self._last or self()

    @property
    def gap(self) -> float:
        """Certified relative gap of the last schedule; infinite where the plan breaks a rule."""
        return float("inf") if self.broken() else self.schedule.termination.relative_gap

    def broken(self) -> list[str]:
        """Rules that the last plan breaks, read off its powers; the stated objective is one of them."""
        power_kw, stated = self.schedule.power_kw, self.schedule.termination.objective
        faults = self.site.faults(power_kw)
        if not self.options.start_cost and abs(self.site.cost(power_kw) - stated) > 1e-6 * max(1.0, abs(stated)):
            faults.append("the stated objective is not the plan's")
        return faults
