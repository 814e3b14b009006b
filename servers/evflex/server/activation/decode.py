"""Turns messages of the ledger into the engine's model, and reports what is wrong with a message by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from evflex.activation.v1 import commitment_pb2, policy_pb2, resource_pb2
from evflex.engine.activation.model import (
    MOST_CHARGE_W,
    MOST_COMMITMENT_MS,
    MOST_POWER_W,
    MOST_SESSION_MS,
    OPEN_END_MS,
    Commitment,
    Direction,
    Policy,
    PolicyKind,
    Resource,
    ResourceKind,
    Row,
    Session,
)
from evflex.engine.validation import Rules
from evflex.server.activation.times import read_ms
from evflex.server.fields import check_id, known_member
from evflex.server.messages import unix_ms

MOST_ALIASES = 100
MOST_ALLOCATION_ROWS = 10_000
MOST_CAP_W = 10**12
_DIRECTIONS = {int(member) for member in Direction}
_KINDS = {int(member) for member in ResourceKind}


def check_resource(rules: Rules, path: str, message: resource_pb2.Resource) -> None:
    """Report what is wrong with a resource."""
    check_id(rules, f"{path}.resource_id", message.resource_id, required=True)
    check_id(rules, f"{path}.parent_id", message.parent_id)
    check_id(rules, f"{path}.area_id", message.area_id)
    rules.check(message.parent_id != message.resource_id, f"{path}.parent_id", "must not be the resource itself")
    rules.check(message.kind in _KINDS, f"{path}.kind", f"must be a known ResourceKind, is {message.kind}")
    for name in ("up_headroom_w", "down_headroom_w"):
        if message.HasField(name):
            value = getattr(message, name)
            rules.check(0 <= value <= MOST_POWER_W, f"{path}.{name}", f"must lie between 0 and 1e9, is {value}")
    check_aliases(rules, f"{path}.aliases", message.aliases)


def check_aliases(rules: Rules, path: str, aliases: Sequence[resource_pb2.Alias]) -> None:
    """Report what is wrong with aliases."""
    rules.check(len(aliases) <= MOST_ALIASES, path, f"must be at most {MOST_ALIASES}, are {len(aliases)}")
    for i, alias in enumerate(aliases[:MOST_ALIASES]):
        check_id(rules, f"{path}[{i}].scheme", alias.scheme, required=True)
        check_id(rules, f"{path}[{i}].value", alias.value, required=True)


def resource_of(message: resource_pb2.Resource) -> Resource:
    """A resource that was checked, or stored."""
    return Resource(
        message.resource_id,
        ResourceKind(message.kind),
        message.parent_id,
        message.area_id,
        message.up_headroom_w if message.HasField("up_headroom_w") else None,
        message.down_headroom_w if message.HasField("down_headroom_w") else None,
        aliases_of(message.aliases),
    )


def aliases_of(messages: Iterable[resource_pb2.Alias]) -> tuple[tuple[str, str], ...]:
    """Scheme and value of aliases, each once."""
    return tuple(dict.fromkeys((alias.scheme, alias.value) for alias in messages))


def check_session(rules: Rules, path: str, message: resource_pb2.Session) -> None:
    """Report what is wrong with a session that is to be opened."""
    check_id(rules, f"{path}.session_id", message.session_id)
    check_id(rules, f"{path}.ev_resource_id", message.ev_resource_id, required=True)
    check_id(rules, f"{path}.charge_point_resource_id", message.charge_point_resource_id, required=True)
    rules.check(message.HasField("start_time"), f"{path}.start_time", "must be set")
    start_ms = read_ms(rules, f"{path}.start_time", message.start_time)
    rules.check(not message.HasField("end_time"), f"{path}.end_time", "must not be set; CloseSession sets it")
    if message.HasField("departure_time"):
        departure_ms = read_ms(rules, f"{path}.departure_time", message.departure_time)
        in_range = start_ms < departure_ms <= start_ms + MOST_SESSION_MS
        rules.check(in_range, f"{path}.departure_time", "must be after start_time, and at most 31 days")
    if message.HasField("max_charge_w"):
        in_range = 0 < message.max_charge_w <= MOST_CHARGE_W
        rules.check(in_range, f"{path}.max_charge_w", f"must be > 0 and at most 1e7, is {message.max_charge_w}")
    if message.HasField("energy_wh"):
        in_range = 0 <= message.energy_wh <= MOST_POWER_W
        rules.check(in_range, f"{path}.energy_wh", f"must lie between 0 and 1e9, is {message.energy_wh}")
        for name in ("departure_time", "max_charge_w"):
            rules.check(message.HasField(name), f"{path}.{name}", "must be set where energy_wh is")


def session_of(message: resource_pb2.Session) -> Session:
    """A session that was checked, or stored."""
    return Session(
        message.session_id,
        message.ev_resource_id,
        message.charge_point_resource_id,
        unix_ms(message.start_time),
        unix_ms(message.end_time) if message.HasField("end_time") else OPEN_END_MS,
        message.energy_wh if message.HasField("energy_wh") else None,
        unix_ms(message.departure_time) if message.HasField("departure_time") else None,
        message.max_charge_w if message.HasField("max_charge_w") else None,
    )


def check_commitment(rules: Rules, path: str, message: commitment_pb2.Commitment, now_ms: int) -> None:
    """Report what is wrong with a commitment that is to be held."""
    check_id(rules, f"{path}.product_id", message.product_id, required=True)
    direction = message.direction
    rules.check(direction in _DIRECTIONS, f"{path}.direction", f"must be a known Direction, is {direction}")
    check_id(rules, f"{path}.exclusive_group", message.exclusive_group)
    check_id(rules, f"{path}.co_delivery_group", message.co_delivery_group)
    if message.exclusive_group and message.co_delivery_group:
        rules.check(False, f"{path}.co_delivery_group", "must be empty where exclusive_group is set")
    for name in ("start_time", "end_time"):
        rules.check(message.HasField(name), f"{path}.{name}", "must be set")
    start_ms = read_ms(rules, f"{path}.start_time", message.start_time)
    end_ms = read_ms(rules, f"{path}.end_time", message.end_time)
    in_range = start_ms < end_ms <= start_ms + MOST_COMMITMENT_MS
    rules.check(in_range, f"{path}.end_time", "must be after start_time, and at most 366 days")
    rules.check(end_ms > now_ms or not in_range, f"{path}.end_time", "must be after the present time of the server")
    _check_power(rules, f"{path}.power_w", message.power_w)
    if message.HasField("energy_wh"):
        in_range = 0 < message.energy_wh <= MOST_POWER_W
        rules.check(in_range, f"{path}.energy_wh", f"must be > 0 and at most 1e9, is {message.energy_wh}")
    one = bool(message.resource_id) != bool(message.allocation)
    rules.check(one, f"{path}.resource_id", "must be set where allocation is empty, and only then")
    check_id(rules, f"{path}.resource_id", message.resource_id)
    if message.allocation:
        check_allocation(rules, path, message.allocation, message.power_w)


def check_allocation(rules: Rules, path: str, allocation: Sequence[commitment_pb2.AllocationRow], power_w: int) -> None:
    """Report what is wrong with the allocation of a pool, which is a field of `path`."""
    table = f"{path}.allocation" if path else "allocation"
    if not 0 < len(allocation) <= MOST_ALLOCATION_ROWS:
        rules.check(False, table, f"must have 1 to {MOST_ALLOCATION_ROWS} rows, has {len(allocation)}")
        return
    rules.identifiers(table, "resource_id", [row.resource_id for row in allocation])
    for i, row in enumerate(allocation):
        check_id(rules, f"{table}[{i}].resource_id", row.resource_id)
        _check_power(rules, f"{table}[{i}].power_w", row.power_w)
    total_w = sum(row.power_w for row in allocation)
    rules.check(total_w == power_w, table, f"must add up to power_w, {power_w}, adds up to {total_w}")


def asked_of(message: commitment_pb2.Commitment) -> Commitment:
    """A commitment that was checked and is asked to be held; output fields, which nobody chooses, are ignored."""
    end_ms = unix_ms(message.end_time)
    if message.resource_id:
        return _commitment(message, (Row(message.resource_id, message.power_w, end_ms),))
    return _commitment(message, tuple(Row(row.resource_id, row.power_w, end_ms) for row in message.allocation))


def commitment_of(message: commitment_pb2.Commitment) -> Commitment:
    """A commitment that is stored; rows that were cut to nothing are left out."""
    return _commitment(message, tuple(_rows(message, unix_ms(message.start_time), unix_ms(message.end_time))))


def _commitment(message: commitment_pb2.Commitment, rows: tuple[Row, ...]) -> Commitment:
    start_ms, end_ms = unix_ms(message.start_time), unix_ms(message.end_time)
    return Commitment(
        commitment_id=message.commitment_id,
        aggregator_id=message.aggregator_id,
        product_id=message.product_id,
        direction=Direction(message.direction),
        rows=rows,
        start_ms=start_ms,
        end_ms=end_ms,
        power_w=message.power_w,
        energy_wh=message.energy_wh if message.HasField("energy_wh") else None,
        exclusive_group=message.exclusive_group,
        co_delivery_group=message.co_delivery_group,
        counter_activation_declared=message.counter_activation_declared,
        sequence=message.sequence,
    )


def allocated(commitment: Commitment, allocation: Iterable[commitment_pb2.AllocationRow]) -> Commitment:
    """The same sold of other resources."""
    rows = tuple(Row(row.resource_id, row.power_w, commitment.end_ms) for row in allocation)
    return replace(commitment, rows=rows)


def policy_of(message: policy_pb2.ActivationPolicy) -> Policy:
    """A policy that was checked, or stored."""
    return Policy(
        message.area_id,
        message.product_id,
        PolicyKind(message.kind),
        ResourceKind(message.sold_side) if message.sold_side else None,
        message.aggregator_cap_w if message.HasField("aggregator_cap_w") else None,
    )


def check_policy(rules: Rules, message: policy_pb2.ActivationPolicy) -> None:
    """Report what is wrong with a policy that is to be set."""
    check_id(rules, "policy.area_id", message.area_id)
    check_id(rules, "policy.product_id", message.product_id)
    kind = known_member(rules, "policy.kind", message.kind, PolicyKind.NONE)
    side = known_member(rules, "policy.sold_side", message.sold_side, ResourceKind.OTHER)
    if kind == PolicyKind.ONE_SIDE:
        is_side = side in (ResourceKind.EV, ResourceKind.CHARGE_POINT)
        rules.check(is_side, "policy.sold_side", "must be EV or CHARGE_POINT with ONE_SIDE")
    else:
        rules.check(not message.sold_side, "policy.sold_side", "must not be set but with ONE_SIDE")
    if message.HasField("aggregator_cap_w"):
        cap_w = message.aggregator_cap_w
        rules.check(0 <= cap_w <= MOST_CAP_W, "policy.aggregator_cap_w", f"must lie between 0 and 1e12, is {cap_w}")
        rules.check(not message.product_id, "policy.aggregator_cap_w", "must not be set where product_id is")


def _rows(message: commitment_pb2.Commitment, start_ms: int, end_ms: int) -> Iterable[Row]:
    if message.resource_id:
        yield Row(message.resource_id, message.power_w, end_ms, PolicyKind(message.policy_kind))
        return
    for row in message.allocation:
        row_end_ms = unix_ms(row.truncated_time) if row.HasField("truncated_time") else end_ms
        if row_end_ms > start_ms:
            yield Row(row.resource_id, row.power_w, row_end_ms, PolicyKind(row.policy_kind))


def _check_power(rules: Rules, path: str, power_w: int) -> None:
    rules.check(0 < power_w <= MOST_POWER_W, path, f"must lie between 1 and 1e9, is {power_w}")
