"""The whole charging problem as a linear or mixed-integer program.

The linear program is the convex relaxation: without minimum powers, starts and quanta. Its duals price every limit.
The mixed-integer program is exact; it is meant for small sites.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.charging.peak import peak_blocks
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import add_quanta, add_switching
from evflex.engine.highs import INFINITY, LinearProgram
from evflex.engine.program_builder import Builder
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Level:
    """One wish of the ranking above cost: the sum ``weights·x[columns]`` that is minimised before all that follows."""

    name: str
    columns: IntArray
    weights: FloatArray


@dataclass(frozen=True, slots=True)
class SiteProgram:
    """A program and where to find things in it. Index arrays hold -1 where there is no column or row.

    Attributes:
        program: The model; its objective is the plan's, less ``constant``.
        constant: Part of the objective that no plan can change.
        levels: Wishes that rank before cost, first the most important.
        charge: Columns of charging power. (n, T).
        discharge: Columns of discharging power. (n, T).
        on: Columns that tell whether a session charges; empty in the relaxation. (n, T).
        discharge_on: Columns that tell whether it discharges. (n, T).
        start: Columns of starts. (n, T).
        count: Columns of whole quanta, charging. (n, T).
        discharge_count: Columns of whole quanta, discharging. (n, T).
        shortfall: Columns of shortfall. (n,).
        surplus: Columns of energy above the need. (n,).
        energy_row: Rows of the energy balance at the end. (n,).
        limit_row: Rows of the limits. (groups, T).
        agreement_row: Rows of the agreements. (groups, T).
        ramp_row: Rows of the change of power from the step before. (n, T).
        root_rows: Rows about net power at the root: export and peak.
        import_choice: Columns that tell whether the site imports, where that is a choice. (T,).
        short_choice: Columns that tell whether a session is short, where surplus is worth more than shortfall. (n,).
    """

    program: LinearProgram
    constant: float
    levels: tuple[Level, ...]
    charge: IntArray
    discharge: IntArray
    on: IntArray
    discharge_on: IntArray
    start: IntArray
    count: IntArray
    discharge_count: IntArray
    shortfall: IntArray
    surplus: IntArray
    energy_row: IntArray
    limit_row: IntArray
    agreement_row: IntArray
    ramp_row: IntArray
    root_rows: IntArray
    import_choice: IntArray
    short_choice: IntArray


def build_program(site: Site, *, exact: bool) -> SiteProgram:
    """Write the site as a program.

    Args:
        site: The site.
        exact: Whether minimum powers, starts, quanta and the choice between import and export are binary; else the
            relaxation.
    """
    return ProgramWriter(site, exact).write()


class ProgramWriter:
    """Writes one site; each method adds the columns and rows of one idea."""

    def __init__(self, site: Site, exact: bool) -> None:
        self.site, self.exact, self.model = site, exact, Builder()
        self.constant = 0.0
        self.levels: list[Level] = []
        shape = (site.session_count, site.step_count)
        self.charge, self.discharge = np.full(shape, -1), np.full(shape, -1)
        self.on, self.discharge_on, self.start = np.full(shape, -1), np.full(shape, -1), np.full(shape, -1)
        self.count, self.discharge_count = np.full(shape, -1), np.full(shape, -1)
        self.shortfall, self.surplus = np.full(shape[0], -1), np.full(shape[0], -1)
        self.energy_row = np.full(shape[0], -1)
        self.ramp_row = np.full(shape, -1)
        self.import_choice, self.short_choice = np.full(shape[1], -1), np.full(shape[0], -1)
        groups = site.limits.upper_kw.shape
        self.limit_row, self.agreement_row = np.full(groups, -1), np.full(groups, -1)

    def write(self) -> SiteProgram:
        """The program."""
        self._add_power()
        relief = self._add_limits()
        minimum = self._add_minimum_energy()
        agreement = self._add_agreements()
        unpriced = self._add_energy()
        before = self.model.rows
        self._add_root()
        root_rows = (before, self.model.rows)
        self._add_cycles_and_ramps()
        self._add_change()
        if self.exact:
            add_switching(self)
            add_quanta(self)
        for name, columns, weights in (("safety relief", *relief), ("minimum energy", *minimum),
                                       ("agreement", *agreement), ("shortfall", *unpriced)):  # fmt: skip
            if len(columns):
                self.levels.append(Level(name, columns, weights))
        return SiteProgram(
            program=self.model.build(),
            constant=self.constant,
            levels=tuple(self.levels),
            charge=self.charge,
            discharge=self.discharge,
            on=self.on,
            discharge_on=self.discharge_on,
            start=self.start,
            count=self.count,
            discharge_count=self.discharge_count,
            shortfall=self.shortfall,
            surplus=self.surplus,
            energy_row=self.energy_row,
            limit_row=self.limit_row,
            agreement_row=self.agreement_row,
            ramp_row=self.ramp_row,
            root_rows=np.arange(*root_rows),
            import_choice=self.import_choice,
            short_choice=self.short_choice,
        )

    def _add_power(self) -> None:
        """Mean power of each session and step, and its price as import."""
        site, model = self.site, self.model
        for columns, largest, wear in (
            (self.charge, site.max_charge_kw, np.zeros(site.session_count)),
            (self.discharge, site.max_discharge_kw, site.problem.sessions.discharge_cost_per_kwh),
        ):
            sign = 1.0 if columns is self.charge else -1.0
            i, t = np.nonzero((site.presence > 0.0) & (largest[:, None] > 0.0))
            price = sign * site.import_rate[t] + wear[i]
            columns[i, t] = model.add_columns(len(i), 0.0, site.presence[i, t] * largest[i], price * site.step_h)

    def _power_entries(self) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """(session, step, column, sign) of every power column."""
        i, t = np.nonzero(self.charge >= 0)
        j, u = np.nonzero(self.discharge >= 0)
        sign = np.concatenate([np.ones(len(i)), -np.ones(len(j))])
        return (
            np.concatenate([i, j]),
            np.concatenate([t, u]),
            np.concatenate([self.charge[i, t], self.discharge[j, u]]),
            sign,
        )

    def _group_entries(self) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """(group, step, column, value) of every power column in every group that sees it."""
        limits = self.site.limits
        i, t, column, sign = self._power_entries()
        width = np.diff(limits.session_start)[i]
        repeat = np.repeat(np.arange(len(i)), width)
        offset = np.arange(len(repeat)) - np.repeat(np.cumsum(width) - width, width)
        entry = limits.session_start[i[repeat]] + offset
        value = sign[repeat] * limits.weight[entry] / self.site.presence[i[repeat], t[repeat]]
        return limits.group[entry], t[repeat], column[repeat], value

    def _add_limits(self) -> tuple[IntArray, FloatArray]:
        """Safety limits; what fixed load alone exceeds is relieved as far as possible."""
        limits, model = self.site.limits, self.model
        relief = limits.relief_kw
        upper = np.where(relief > 0.0, -relief, limits.upper_kw)
        lower = np.where(relief < 0.0, -relief, limits.lower_kw)
        active = np.isfinite(upper) | np.isfinite(lower)
        g, t = np.nonzero(active)
        self.limit_row[g, t] = model.add_rows(len(g), lower[g, t], upper[g, t])
        group, step, column, value = self._group_entries()
        rows = self.limit_row[group, step]
        used = rows >= 0
        model.put(rows[used], column[used], value[used])
        g, t = np.nonzero(relief != 0.0)
        excess = model.add_columns(len(g), 0.0, np.abs(relief[g, t]))
        model.put(self.limit_row[g, t], excess, -np.sign(relief[g, t]))
        return excess, np.full(len(g), self.site.step_h)

    def _add_agreements(self) -> tuple[IntArray, FloatArray]:
        """Connection agreements; what they are exceeded by ranks after minimum energy."""
        limits, model = self.site.limits, self.model
        g, t = np.nonzero(np.isfinite(limits.agreement_kw))
        self.agreement_row[g, t] = model.add_rows(len(g), -INFINITY, limits.agreement_kw[g, t])
        group, step, column, value = self._group_entries()
        rows = self.agreement_row[group, step]
        used = rows >= 0
        model.put(rows[used], column[used], value[used])
        wanted = self.site.minimum_kwh.any()
        excess = model.add_columns(len(g), 0.0, INFINITY if wanted else self._given_up(g, t))
        model.put(self.agreement_row[g, t], excess, -1.0)
        return excess, np.full(len(g), self.site.step_h)

    def _given_up(self, group: IntArray, step: IntArray) -> FloatArray:
        """Excess over an agreement that fixed load alone causes."""
        return np.maximum(-self.site.limits.agreement_kw[group, step], 0.0)

    def _battery_entries(self, selected: BoolArray, through: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
        """(session, column, kWh per kW) of the power of some sessions in their first ``through`` steps."""
        site = self.site
        i, t, column, sign = self._power_entries()
        used = selected[i] & (t < through[i])
        sessions = site.problem.sessions
        kwh = np.where(sign > 0.0, sessions.charge_efficiency[i], -1.0 / sessions.discharge_efficiency[i]) * site.step_h
        return i[used], column[used], kwh[used]

    def _given_kwh(self, through: IntArray) -> FloatArray:
        site = self.site
        counted = np.arange(site.step_count)[None, :] < through[:, None]
        return site.problem.sessions.charge_efficiency * site.step_h * (site.given_kw * counted).sum(axis=1)

    def _add_minimum_energy(self) -> tuple[IntArray, FloatArray]:
        site, model = self.site, self.model
        wants = site.minimum_kwh > 0.0
        who = np.flatnonzero(wants)
        # A battery that was discharged lacks more than the minimum.
        lacking = model.add_columns(len(who), 0.0, (site.minimum_kwh - site.floor_kwh)[who])
        rows = np.full(site.session_count, -1)
        given = self._given_kwh(site.minimum_steps)
        rows[who] = model.add_rows(len(who), (site.minimum_kwh - given)[who], INFINITY)
        i, column, kwh = self._battery_entries(wants, site.minimum_steps)
        model.put(rows[i], column, kwh)
        model.put(rows[who], lacking, 1.0)
        return lacking, site.problem.sessions.shortfall_weight[who]

    def _add_energy(self) -> tuple[IntArray, FloatArray]:
        """Energy at the end; for sessions that discharge, energy at the end of every step."""
        site, model = self.site, self.model
        n, everything = site.session_count, np.full(site.session_count, site.step_count)
        price = site.shortfall_price_per_kwh
        short_cost = np.where(np.isnan(price), 0.0, price)
        discharges = np.asarray((self.discharge >= 0).any(axis=1))
        most_short = np.where(discharges, site.need_kwh - site.floor_kwh, site.need_kwh)
        self.shortfall[:] = model.add_columns(n, 0.0, most_short, short_cost)
        self.surplus[:] = model.add_columns(n, 0.0, site.ceiling_kwh - site.need_kwh, -site.value_per_kwh)
        rows = model.add_rows(
            n, site.need_kwh - self._given_kwh(everything), site.need_kwh - self._given_kwh(everything)
        )
        i, column, kwh = self._battery_entries(np.ones(n, dtype=np.bool_), everything)
        model.put(rows[i], column, kwh)
        model.put(rows, self.shortfall, 1.0)
        model.put(rows, self.surplus, -1.0)
        self.energy_row[:] = rows
        if self.exact:
            self._add_short_choice(most_short)
        self._add_battery(discharges)
        unpriced = np.flatnonzero(np.isnan(price) & (site.need_kwh > 0.0))
        return self.shortfall[unpriced], site.problem.sessions.shortfall_weight[unpriced]

    def _add_short_choice(self, most_short: FloatArray) -> None:
        """Where surplus is worth more than shortfall costs, a session has one of them only."""
        site, model = self.site, self.model
        who = np.flatnonzero(site.shortfall_price_per_kwh < site.value_per_kwh)
        if not len(who):
            return
        short = self.short_choice[who] = model.add_columns(len(who), 0.0, 1.0, integer=True)
        rows = model.add_rows(len(who), -INFINITY, 0.0)
        model.put(rows, self.shortfall[who], 1.0)
        model.put(rows, short, -most_short[who])
        most_over = np.maximum(site.ceiling_kwh - site.need_kwh, 0.0)[who]
        rows = model.add_rows(len(who), -INFINITY, most_over)
        model.put(rows, self.surplus[who], 1.0)
        model.put(rows, short, most_over)

    def _add_battery(self, discharges: BoolArray) -> None:
        """s_t = s_{t-1} + η_c·Δt·p⁺_t − Δt/η_d·p⁻_t (+ what is given), within floor and ceiling."""
        site, model = self.site, self.model
        steps, sessions = site.step_count, site.problem.sessions
        who = np.flatnonzero(discharges)
        if not len(who):
            return
        state = np.full((site.session_count, steps), -1)
        rows = np.full((site.session_count, steps), -1)
        i, t = np.repeat(who, steps), np.tile(np.arange(steps), len(who))
        given = sessions.charge_efficiency[i] * site.step_h * site.given_kw[i, t]
        state[i, t] = model.add_columns(len(i), site.floor_kwh[i], site.ceiling_kwh[i])
        rows[i, t] = model.add_rows(len(i), given, given)
        model.put(rows[i, t], state[i, t], 1.0)
        later = t > 0
        model.put(rows[i[later], t[later]], state[i[later], t[later] - 1], -1.0)
        j, u, column, sign = self._power_entries()
        used = discharges[j]
        kwh = np.where(sign > 0.0, sessions.charge_efficiency[j], -1.0 / sessions.discharge_efficiency[j]) * site.step_h
        model.put(rows[j[used], u[used]], column[used], -kwh[used])

    def _add_root(self) -> None:
        """Export, where net power at the root may turn negative, and the peak of import."""
        site, model = self.site, self.model
        base = site.fixed_kw + site.given_kw.sum(axis=0)
        most = base + (site.presence * site.max_charge_kw[:, None]).sum(axis=0)
        least = base - (site.presence * site.max_discharge_kw[:, None]).sum(axis=0)
        export = np.full(site.step_count, -1)
        _, t, column, sign = self._power_entries()
        steps = np.flatnonzero(least < 0.0)
        # Import is base + Σ power + export; import_rate stands at the power columns already.
        self.constant += float(site.import_rate @ base) * site.step_h
        spread = (site.import_rate - site.export_rate) * site.step_h
        export[steps] = model.add_columns(len(steps), 0.0, -least[steps], spread[steps])
        rows = np.full(site.step_count, -1)
        rows[steps] = model.add_rows(len(steps), -base[steps], INFINITY)
        used = rows[t] >= 0
        model.put(rows[t[used]], column[used], sign[used])
        model.put(rows[steps], export[steps], 1.0)
        self._add_export_choice(np.flatnonzero((least < 0.0) & (spread < 0.0)), export, base, most, least)
        self._add_peak(export, base)

    def _add_export_choice(
        self, steps: IntArray, export: IntArray, base: FloatArray, most: FloatArray, least: FloatArray
    ) -> None:
        """Where export earns more than import costs: import only with u = 1, export only with u = 0.

        Relaxed, 0 <= u <= 1, this is the convex envelope of the cost.
        """
        if not len(steps):
            return
        model = self.model
        most = np.maximum(most, 0.0)
        imports = self.import_choice[steps] = model.add_columns(len(steps), 0.0, 1.0, integer=self.exact)
        place = np.full(self.site.step_count, -1)
        place[steps] = np.arange(len(steps))
        # export <= -least·(1 - u)
        rows = model.add_rows(len(steps), -INFINITY, -least[steps])
        model.put(rows, export[steps], 1.0)
        model.put(rows, imports, -least[steps])
        # base + Σ power + export <= most·u
        rows = model.add_rows(len(steps), -INFINITY, -base[steps])
        _, t, column, sign = self._power_entries()
        used = place[t] >= 0
        model.put(rows[place[t[used]]], column[used], sign[used])
        model.put(rows, export[steps], 1.0)
        model.put(rows, imports, -most[steps])

    def _add_peak(self, export: IntArray, base: FloatArray) -> None:
        """Peak: peak_price·max(0, highest averaged import − observed)."""
        site, model = self.site, self.model
        tariff = site.problem.tariff
        if tariff.peak_price_per_kw <= 0.0:
            return
        blocks = peak_blocks(site.problem)
        if not len(blocks):
            return
        above = model.add_columns(1, 0.0, INFINITY, tariff.peak_price_per_kw)
        length = np.bincount(blocks[blocks >= 0])
        count = len(length)
        block_base = np.bincount(blocks[blocks >= 0], weights=base[blocks >= 0]) / np.maximum(length, 1)
        rows = model.add_rows(count, -INFINITY, tariff.observed_peak_kw - block_base)
        model.put(rows, np.repeat(above, count), -1.0)
        _, t, column, sign = self._power_entries()
        used = blocks[t] >= 0
        model.put(rows[blocks[t[used]]], column[used], sign[used] / length[blocks[t[used]]])
        steps = np.flatnonzero((blocks >= 0) & (export >= 0))
        model.put(rows[blocks[steps]], export[steps], 1.0 / length[blocks[steps]])

    def _add_cycles_and_ramps(self) -> None:
        site, model = self.site, self.model
        sessions = site.problem.sessions
        limited = np.isfinite(sessions.max_cycles) & (self.discharge >= 0).any(axis=1)
        who = np.flatnonzero(limited)
        if len(who):
            rows = np.full(site.session_count, -1)
            budget = sessions.max_cycles * (site.ceiling_kwh - site.floor_kwh)
            rows[who] = model.add_rows(len(who), -INFINITY, budget[who])
            i, t = np.nonzero((self.discharge >= 0) & limited[:, None])
            model.put(rows[i], self.discharge[i, t], site.step_h / sessions.discharge_efficiency[i])
        ramped = np.isfinite(sessions.max_ramp_kw_per_step)
        present = (self.charge >= 0) | (self.discharge >= 0)
        i, t = np.nonzero(present[:, 1:] & present[:, :-1] & ramped[:, None])
        if not len(i):
            return
        ramp = sessions.max_ramp_kw_per_step[i]
        most = ramp
        if not self.exact:
            # Starts and stops may jump to the minimum; the exact program adds a switch for that.
            f = np.maximum(site.presence[i, t], site.presence[i, t + 1])
            most = ramp + np.maximum(f * site.min_charge_kw[i] - ramp, 0.0)
            most = most + np.maximum(f * site.min_discharge_kw[i] - ramp, 0.0)
        rows = self.ramp_row[i, t + 1] = model.add_rows(len(i), -most, most)
        for columns, sign in ((self.charge, 1.0), (self.discharge, -1.0)):
            for step, side in ((t + 1, sign), (t, -sign)):
                has = columns[i, step] >= 0
                model.put(rows[has], columns[i[has], step[has]], side)

    def _add_change(self) -> None:
        """change_cost·Δt·|p − p_previous|."""
        site, model, options = self.site, self.model, self.site.options
        if options.change_cost_per_kwh <= 0.0 or not options.previous_power_kw.size:
            return
        known = ~np.isnan(options.previous_power_kw)
        movable = (self.charge >= 0) | (self.discharge >= 0)
        i, t = np.nonzero(known & movable)
        previous = options.previous_power_kw[i, t]
        weight = options.change_cost_per_kwh * site.step_h
        up = model.add_columns(len(i), 0.0, INFINITY, weight)
        down = model.add_columns(len(i), 0.0, INFINITY, weight)
        rows = model.add_rows(len(i), previous, previous)
        for columns, sign in ((self.charge, 1.0), (self.discharge, -1.0)):
            has = columns[i, t] >= 0
            model.put(rows[has], columns[i[has], t[has]], sign)
        model.put(rows, up, -1.0)
        model.put(rows, down, 1.0)
        still = known & ~movable
        self.constant += weight * float(np.abs(options.previous_power_kw[still] - site.given_kw[still]).sum())
