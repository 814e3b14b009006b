"""Random requests to a ledger."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.server.caller import Caller
from tests.server.activation.ledger_bench import AGGREGATOR, Bench
from tests.server.activation.live_support import (
    ACTIVATED,
    CONFIRMED,
    DOWN,
    EV,
    HELD,
    HOUR_MS,
    POINT,
    SITE,
    SUSPENDED,
    UP,
    activate,
    close_session,
    confirm,
    hold,
    new_request_id,
    open_session,
    register,
    release,
    resource,
    sale,
    set_policy,
)


class Chance:
    """Random requests about a small world, most of which make sense."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.random = bench, random.Random(seed)
        self.tenants = [Caller("agg"), Caller("other")]
        self.cars = [f"ev{i}" for i in range(4)]
        self.points = [f"cp{i}" for i in range(4)]
        self.sites = ["site", "feeder"]
        self.opened = 0

    def set_up(self) -> None:
        made = [resource("feeder", SITE, up_w=60_000), resource("site", SITE, up_w=30_000, parent="feeder")]
        made += [resource(name, POINT, up_w=11_000, down_w=11_000, parent="site") for name in self.points]
        made += [resource(name, EV, up_w=7_000, down_w=7_000) for name in self.cars]
        self.bench.register.register(register(*made), AGGREGATOR)

    def work(self) -> Callable[[], Any]:
        """A request, ready to be made."""
        bench, chance = self.bench, self.random
        caller = chance.choice(self.tenants)
        only_checks = chance.random() < 0.15
        makers: list[tuple[int, Callable[[Caller], Callable[[], Any]]]] = [
            (10, self._hold), (6, self._confirm), (3, self._release), (3, self._activate), (2, self._complete),
            (1, self._settle), (2, self._reallocate), (4, self._open), (3, self._close), (2, self._link),
            (2, self._unlink), (2, self._register), (2, self._policy), (1, self._delete_policy),
        ]  # fmt: skip
        ((_, maker),) = chance.choices(makers, [weight for weight, _ in makers])
        self._only_checks = only_checks
        if chance.random() < 0.1:
            bench.now_us += chance.choice([1, 50_000, 700_000, 400_000_000])
        return maker(caller)

    def _named(self, states: tuple[int, ...]) -> list[str]:
        """Some commitments, most of them in one of these states."""
        known = self.bench.keeper.look(lambda world: {n: int(c.state) for n, c in world.commitments.items()})
        fit = [name for name, state in known.items() if state in states or self.random.random() < 0.1]
        if not fit:
            return [new_request_id()]
        return self.random.sample(fit, min(len(fit), self.random.choice([1, 1, 2])))

    def _sale(self) -> Any:
        chance = self.random
        start_ms = self.bench.now_us // 1_000 + chance.randrange(-1, 6) * HOUR_MS // 4
        end_ms = start_ms + chance.randrange(1, 8) * HOUR_MS // 4
        sessions = list(self.bench.keeper.look(lambda world: world.sessions))
        names = [*self.cars, *self.points, *self.sites, *sessions, "unknown"]
        of: str | dict[str, int] = chance.choice(names)
        if chance.random() < 0.4:
            of = {name: chance.randrange(1, 4) * 500 for name in chance.sample(names[:-1], chance.randrange(1, 4))}
        fields: dict[str, Any] = {"product_id": chance.choice(["afrr", "fcr"])}
        kind = chance.random()
        if kind < 0.2:
            fields["exclusive_group"] = chance.choice("gh")
        elif kind < 0.4:
            fields["co_delivery_group"] = chance.choice("gh")
        if chance.random() < 0.3:
            fields["counter_activation_declared"] = True
        if chance.random() < 0.3:
            fields["energy_wh"] = chance.randrange(100, 3_000)
        power_w = chance.randrange(1, 8) * 500
        return sale(of, start_ms, end_ms, power_w, chance.choice([UP, UP, DOWN]), **fields)

    def _hold(self, caller: Caller) -> Callable[[], Any]:
        made = [self._sale() for _ in range(self.random.choice([1, 1, 1, 2, 3]))]
        request = hold(*made, seconds=self.random.choice([1.0, 300.0]), validate_only=self._only_checks)
        return lambda: self.bench.selling.hold(request, caller)

    def _confirm(self, caller: Caller) -> Callable[[], Any]:
        request = confirm(*self._named((HELD, SUSPENDED)), validate_only=self._only_checks)
        return lambda: self.bench.selling.confirm(request, caller)

    def _release(self, caller: Caller) -> Callable[[], Any]:
        request = release(*self._named((HELD, SUSPENDED)), validate_only=self._only_checks)
        return lambda: self.bench.selling.release(request, caller)

    def _activate(self, caller: Caller) -> Callable[[], Any]:
        request = activate(*self._named((CONFIRMED,)), validate_only=self._only_checks)
        return lambda: self.bench.activating.activate(request, caller)

    def _complete(self, caller: Caller) -> Callable[[], Any]:
        request = api.CompleteCommitmentsRequest(request_id=new_request_id(), validate_only=self._only_checks)
        for name in self._named((ACTIVATED,)):
            request.deliveries.add(commitment_id=name, delivered_energy_wh=100)
        return lambda: self.bench.activating.complete(request, caller)

    def _settle(self, caller: Caller) -> Callable[[], Any]:
        stored = self.bench.store.commitments_page(caller.tenant_id, None, 20, None, state=4)
        names = [c.commitment_id for c in stored] or [new_request_id()]
        request = api.SettleCommitmentsRequest(
            request_id=new_request_id(), commitment_ids=[self.random.choice(names)], settlement_id="bill",
            validate_only=self._only_checks,
        )  # fmt: skip
        return lambda: self.bench.activating.settle(request, caller)

    def _reallocate(self, caller: Caller) -> Callable[[], Any]:
        pools = self.bench.keeper.look(lambda world: [c for c in world.commitments.values() if c.allocation])
        if not pools:
            return self._hold(caller)
        pool = self.random.choice(pools)
        names = self.random.sample([*self.cars, *self.points], 2)
        request = api.ReallocateCommitmentRequest(
            request_id=new_request_id(), commitment_id=pool.commitment_id, validate_only=self._only_checks
        )
        first_w = self.random.randrange(1, max(pool.power_w, 2))
        request.allocation.add(resource_id=names[0], power_w=first_w)
        if pool.power_w > first_w:
            request.allocation.add(resource_id=names[1], power_w=pool.power_w - first_w)
        return lambda: self.bench.selling.reallocate(request, caller)

    def _open(self, caller: Caller) -> Callable[[], Any]:
        self.opened += 1
        start_ms = self.bench.now_us // 1_000 - self.random.randrange(0, 3) * HOUR_MS // 4
        request = open_session(
            f"session{self.opened}", self.random.choice(self.cars), self.random.choice(self.points), start_ms,
            validate_only=self._only_checks,
        )  # fmt: skip
        if self.random.random() < 0.4:
            request.session.departure_time.FromMilliseconds(start_ms + 4 * HOUR_MS)
            request.session.max_charge_w = 11_000
            request.session.energy_wh = self.random.choice([1_000, 30_000, 43_000])
        return lambda: self.bench.sessions.open(request, caller)

    def _close(self, caller: Caller) -> Callable[[], Any]:
        sessions = self.bench.keeper.look(lambda world: list(world.sessions.values()))
        still = [s for s in sessions if not s.HasField("end_time") or self.random.random() < 0.1]
        if not still:
            return self._open(caller)
        session = self.random.choice(still)
        request = close_session(session.session_id, validate_only=self._only_checks)
        if self.random.random() < 0.3:
            request.end_time.FromMilliseconds(session.start_time.ToMilliseconds() + self.random.randrange(HOUR_MS))
        return lambda: self.bench.sessions.close(request, Caller(session.tenant_id))

    def _link(self, caller: Caller) -> Callable[[], Any]:
        request = api.LinkAliasesRequest(request_id=new_request_id(), validate_only=self._only_checks)
        request.resource_id = self.random.choice([*self.cars, *self.points])
        request.aliases.add(scheme="vin", value=self.random.choice("xyz"))
        return lambda: self.bench.register.link(request, AGGREGATOR)

    def _unlink(self, caller: Caller) -> Callable[[], Any]:
        request = api.UnlinkAliasesRequest(request_id=new_request_id(), validate_only=self._only_checks)
        named = self.bench.keeper.look(lambda world: [r for r in world.resources.values() if r.aliases])
        if not named:
            return self._link(caller)
        found = self.random.choice(named)
        request.resource_id = found.resource_id
        request.aliases.add(scheme="vin", value=self.random.choice(found.aliases).value)
        return lambda: self.bench.register.unlink(request, AGGREGATOR)

    def _register(self, caller: Caller) -> Callable[[], Any]:
        chance = self.random
        name = chance.choice([*self.cars, *self.points, f"new{chance.randrange(6)}"])
        kind = POINT if name.startswith("cp") else EV
        parent = chance.choice(["site", "feeder", ""]) if kind == POINT else ""
        aliases = [chance.choice("xyz")] if chance.random() < 0.3 else []
        made = [resource(name, kind, chance.randrange(4, 12) * 1_000, 11_000, parent, aliases)]
        if chance.random() < 0.2:
            made.append(resource(f"late{chance.randrange(3)}", SITE, parent=chance.choice(["site", "nowhere"])))
        request = register(*made, validate_only=self._only_checks)
        return lambda: self.bench.register.register(request, AGGREGATOR)

    def _policy(self, caller: Caller) -> Callable[[], Any]:
        chance = self.random
        product_id = chance.choice(["", "afrr", "fcr"])
        cap_w = None if product_id or chance.random() < 0.5 else chance.randrange(5, 30) * 1_000
        kind = chance.choice([0, 1, 2, 3, 4])
        request = set_policy(kind, product_id, chance.choice(["", "north"]), cap_w, EV if kind == 1 else 0)
        request.validate_only = self._only_checks
        return lambda: self.bench.policies.set(request, caller)

    def _delete_policy(self, caller: Caller) -> Callable[[], Any]:
        request = api.DeleteActivationPolicyRequest(request_id=new_request_id(), validate_only=self._only_checks)
        request.area_id = self.random.choice(["", "north"])
        request.product_id = self.random.choice(["", "afrr"])
        return lambda: self.bench.policies.delete(request, caller)
