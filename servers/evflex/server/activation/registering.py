"""Resources and their aliases: registered, changed, joined and separated."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import TypeVar

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import resource_pb2
from evflex.engine.activation.model import OPEN_END_MS
from evflex.engine.activation.registry import closes_cycle, overlapping
from evflex.engine.validation import Rules
from evflex.server.activation.decode import aliases_of, check_aliases, check_resource
from evflex.server.activation.keeper import Done, LedgerKeeper
from evflex.server.activation.locks import Locks, locks_of_line
from evflex.server.activation.refusals import not_owner, refused
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import LedgerWorld
from evflex.server.caller import Caller
from evflex.server.errors import invalid_field, not_found
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.messages import copy_of
from evflex.server.store.requests import check_etag

MOST_RESOURCES = 10_000
AliasAnswer = TypeVar("AliasAnswer", api.LinkAliasesResponse, api.UnlinkAliasesResponse)


class Register:
    """Keeps resources."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        """Write to a ledger."""
        self._keeper = keeper

    def register(self, request: api.RegisterResourcesRequest, caller: Caller) -> api.RegisterResourcesResponse:
        """Add resources, and change those of the caller; all of it or nothing.

        Raises:
            ServiceError: INVALID_ARGUMENT; PERMISSION_DENIED, one belongs to another tenant, or an area is not allowed;
                ABORTED for another etag; FAILED_PRECONDITION, one is in use, or would join what cannot be one.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        count = len(request.resources)
        rules.check(0 < count <= MOST_RESOURCES, "resources", f"must be 1 to {MOST_RESOURCES}, are {count}")
        for i, resource in enumerate(request.resources[:MOST_RESOURCES]):
            check_resource(rules, f"resources[{i}]", resource)
        rules.identifiers("resources", "resource_id", [resource.resource_id for resource in request.resources])
        refuse(rules)
        for area_id in {resource.area_id for resource in request.resources}:
            caller.require_area(area_id)
        ordered = _parents_first(request.resources)

        def work(turn: Turn) -> Done:
            fresh = [r.resource_id for r in request.resources if r.resource_id not in turn.world.resources]
            taken = self._keeper.store.session_names(fresh)
            for i, resource in enumerate(request.resources):
                if resource.resource_id in turn.world.sessions or resource.resource_id in taken:
                    raise invalid_field(f"resources[{i}].resource_id", "must not be called as a session is, or was")
                _check_own(turn, caller, resource)
            # first, so that an alias that moves from one to another does not join them in between
            asked = {alias for resource in request.resources for alias in aliases_of(resource.aliases)}
            for resource in request.resources:
                _take_aliases(turn, caller, resource, asked)
            written = {}
            for i in ordered:
                resource = request.resources[i]
                if resource.parent_id and resource.parent_id not in turn.world.resources:
                    raise invalid_field(f"resources[{i}].parent_id", f"must be registered, is {resource.parent_id!r}")
                written[i] = self._put(turn, caller, resource)
            _refuse_cycles(turn.world, [resource.resource_id for resource in request.resources])
            answer = api.RegisterResourcesResponse()
            if not request.validate_only:
                answer.resources.extend(written[i] for i in range(count))
            return Done(answer, request.resources[0].resource_id, request.resources[0].area_id)

        return self._keeper.change(
            "RegisterResources", request, caller, api.RegisterResourcesResponse, work,
            lambda world: _locks(world, request.resources),
        )  # fmt: skip

    def link(self, request: api.LinkAliasesRequest, caller: Caller) -> api.LinkAliasesResponse:
        """Add aliases to a resource of the caller.

        Raises:
            ServiceError: As :meth:`register`.
        """

        def with_those(known: Sequence[resource_pb2.Alias]) -> list[resource_pb2.Alias]:
            there = aliases_of(known)
            return [*known, *(alias for alias in request.aliases if (alias.scheme, alias.value) not in there)]

        return self._change_aliases("LinkAliases", request, caller, api.LinkAliasesResponse, with_those)

    def unlink(self, request: api.UnlinkAliasesRequest, caller: Caller) -> api.UnlinkAliasesResponse:
        """Take aliases from a resource of the caller.

        Raises:
            ServiceError: As :meth:`register`; INVALID_ARGUMENT for an alias that it has not.
        """

        def without_those(known: Sequence[resource_pb2.Alias]) -> list[resource_pb2.Alias]:
            there, gone = aliases_of(known), aliases_of(request.aliases)
            for i, alias in enumerate(request.aliases):
                if (alias.scheme, alias.value) not in there:
                    raise invalid_field(f"aliases[{i}]", "must be an alias of the resource")
            return [alias for alias in known if (alias.scheme, alias.value) not in gone]

        return self._change_aliases("UnlinkAliases", request, caller, api.UnlinkAliasesResponse, without_those)

    def get(self, request: api.GetResourceRequest, caller: Caller) -> api.GetResourceResponse:
        """A resource, and what is the same thing.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND.
        """
        rules = Rules()
        check_id(rules, "resource_id", request.resource_id, required=True)
        refuse(rules)
        name = request.resource_id

        def see(world: LedgerWorld) -> api.GetResourceResponse:
            message = world.resources.get(name)
            if message is None or not caller.may_use_area(message.area_id):
                raise not_found("resource", name)
            return api.GetResourceResponse(resource=shown_to(caller, message), same_resource_ids=_same(world, name))

        return self._keeper.look(see)

    def page(
        self, request: api.ListResourcesRequest, caller: Caller, before_sequence: int | None, size: int
    ) -> list[resource_pb2.Resource]:
        """Resources, the one changed last first."""
        return self._keeper.store.resources_page(
            before_sequence, size, caller.areas, area_id=request.area_id, kind=request.kind,
            tenant_id=caller.tenant_id if request.own else "",
        )  # fmt: skip

    def _change_aliases(
        self,
        method: str,
        request: api.LinkAliasesRequest | api.UnlinkAliasesRequest,
        caller: Caller,
        answer_type: type[AliasAnswer],
        changed_of: Callable[[Sequence[resource_pb2.Alias]], list[resource_pb2.Alias]],
    ) -> AliasAnswer:
        """Give a resource the aliases that follow from those that it has."""
        name = request.resource_id
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "resource_id", name, required=True)
        rules.check(bool(request.aliases), "aliases", "must not be empty")
        check_aliases(rules, "aliases", request.aliases)
        refuse(rules)

        def work(turn: Turn) -> Done:
            message = _own(turn.world, caller, name, request.etag)
            aliases = changed_of(message.aliases)
            rules = Rules()
            check_aliases(rules, "aliases", aliases)
            refuse(rules)
            del message.aliases[:]
            message.aliases.extend(aliases)
            written = self._write(turn, caller, message)
            _refuse_cycles(turn.world, [name])
            shown = None if request.validate_only else written
            answer = answer_type(resource=shown, same_resource_ids=_same(turn.world, name))
            return Done(answer, name, written.area_id)

        wanted = resource_pb2.Resource(resource_id=name, aliases=request.aliases)
        return self._keeper.change(method, request, caller, answer_type, work, lambda world: _locks(world, [wanted]))

    def _put(self, turn: Turn, caller: Caller, wanted: resource_pb2.Resource) -> resource_pb2.Resource:
        """Write one resource of a request."""
        message = resource_pb2.Resource()
        before = turn.world.resources.get(wanted.resource_id)
        if before is not None:
            message.create_time.CopyFrom(before.create_time)
        for field in ("resource_id", "kind", "parent_id", "area_id"):
            setattr(message, field, getattr(wanted, field))
        for field in ("up_headroom_w", "down_headroom_w"):
            if wanted.HasField(field):
                setattr(message, field, getattr(wanted, field))
        for scheme, value in aliases_of(wanted.aliases):
            message.aliases.add(scheme=scheme, value=value)
        return self._write(turn, caller, message)

    def _write(self, turn: Turn, caller: Caller, message: resource_pb2.Resource) -> resource_pb2.Resource:
        """Write a resource, where nothing stands against it."""
        registry, name = turn.world.ledger.registry, message.resource_id
        before = turn.world.resources.get(name)
        if before is not None and _moves(before, message):
            thing = registry.thing(name)
            in_session = registry.sessions_of(thing, turn.now_ms, OPEN_END_MS)
            ledger = turn.world.ledger
            # a forecast counts nowhere yet, and is sold all the same
            if in_session or ledger.counting_at([thing.thing_id]) or ledger.naming(thing.members):
                raise refused(
                    "RESOURCE_IN_USE", f"{name!r} is sold or in a session: kind, parent_id, area_id must stay"
                )
        joined = registry.joined_by(name, aliases_of(message.aliases)) - {name}
        kinds = {registry.resources[other].kind for other in joined}
        if kinds - {message.kind}:
            raise refused("KINDS_DIFFER", f"an alias of {name!r} is that of a resource of another kind")
        message.tenant_id = caller.tenant_id
        turn.put_resource(message)
        sessions = registry.sessions_of(registry.thing(name), 0, OPEN_END_MS)
        if joined and overlapping(sessions) is not None:
            raise refused("SESSIONS_OVERLAP", f"what would be one thing with {name!r} is in two sessions at once")
        return message


def shown_to(caller: Caller, message: resource_pb2.Resource) -> resource_pb2.Resource:
    """A resource as a caller may see it: aliases are personal data."""
    if message.tenant_id == caller.tenant_id:
        return message
    shown = copy_of(message)
    del shown.aliases[:]
    return shown


def _check_own(turn: Turn, caller: Caller, wanted: resource_pb2.Resource) -> None:
    """Refuse a resource of a request that is not the caller's to write."""
    before = turn.world.resources.get(wanted.resource_id)
    if before is None:
        return
    if before.tenant_id != caller.tenant_id:
        raise not_owner("resource", wanted.resource_id)
    caller.require_area(before.area_id)
    check_etag("resource", wanted.etag, before.etag)


def _take_aliases(turn: Turn, caller: Caller, wanted: resource_pb2.Resource, asked: Container[tuple[str, str]]) -> None:
    """Take from a resource the aliases that a request gives to another."""
    before = turn.world.resources.get(wanted.resource_id)
    if before is None:
        return
    kept = aliases_of(wanted.aliases)
    moved = {alias for alias in aliases_of(before.aliases) if alias in asked and alias not in kept}
    if not moved:
        return
    message = copy_of(before)
    del message.aliases[:]
    message.aliases.extend(alias for alias in before.aliases if (alias.scheme, alias.value) not in moved)
    turn.put_resource(message)


def _refuse_cycles(world: LedgerWorld, names: Iterable[str]) -> None:
    for name in names:
        if closes_cycle(world.ledger.registry, [name]):
            raise refused("CYCLE", f"{name!r} would be behind itself")


def _own(world: LedgerWorld, caller: Caller, name: str, etag: str) -> resource_pb2.Resource:
    """A copy of a resource that the caller registered."""
    before = world.resources.get(name)
    if before is None or not caller.may_use_area(before.area_id):
        raise not_found("resource", name)
    if before.tenant_id != caller.tenant_id:
        raise not_owner("resource", name)
    check_etag("resource", etag, before.etag)
    return copy_of(before)


def _moves(before: resource_pb2.Resource, after: resource_pb2.Resource) -> bool:
    """Whether a change alters where a resource stands, and not just how much it has and how it is called."""
    return (before.kind, before.parent_id, before.area_id) != (after.kind, after.parent_id, after.area_id)


def _same(world: LedgerWorld, name: str) -> list[str]:
    return [member for member in world.ledger.registry.thing(name).members if member != name]


def _parents_first(resources: Sequence[resource_pb2.Resource]) -> list[int]:
    """Places of resources in an order in which each stands after its parent.

    Raises:
        ServiceError: INVALID_ARGUMENT, some are behind one another.
    """
    place = {resource.resource_id: i for i, resource in enumerate(resources)}
    ordered: dict[int, None] = {}
    for start in range(len(resources)):
        line: dict[int, None] = {}
        i: int | None = start
        while i is not None and i not in ordered:
            if i in line:
                raise invalid_field(f"resources[{start}].parent_id", "must not lead back to the resource")
            line[i] = None
            i = place.get(resources[i].parent_id)
        ordered.update(dict.fromkeys(reversed(line)))
    return list(ordered)


def _locks(world: LedgerWorld, resources: Iterable[resource_pb2.Resource]) -> Locks:
    """What is one thing with any of some resources, or would be, and what that is behind."""
    registry = world.ledger.registry
    joined, written = set[str](), set[str]()
    for resource in resources:
        joined |= registry.joined_by(resource.resource_id, aliases_of(resource.aliases))
        # its row is written: one that another server has added since, and others may hold, is locked in its turn
        written.add(resource.resource_id)
    return Locks(written.union(locks_of_line(world, joined).resource_ids))
