"""What flexibility comes from, and the requests that register it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import resource_pb2
from evflex.client.activation.enums import ResourceKind, resource_kind_name, resource_kind_text
from evflex.client.activation.whole import FieldWriter, optional_in_thousands
from evflex.client.columns import faulty_columns, numbers, with_id_column
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import timestamp

Aliases = Mapping[str, str | Sequence[str]]
"""Other names by scheme, for example ``{"vin": "WVW…", "emaid": ["DK-EVF-1", "DK-EVF-2"]}``."""

_ALIAS_PREFIX = "aliases."
_TEXT_COLUMNS = ("resource_id", "kind", "parent_id", "area_id", "etag")
_POWER_COLUMNS = ("up_headroom_kw", "down_headroom_kw")
_COLUMNS = (*_TEXT_COLUMNS, *_POWER_COLUMNS)


@dataclass(frozen=True, slots=True)
class Resource:
    """Something whose flexibility can be sold.

    Attributes:
        resource_id: Identifier, unique among all tenants.
        kind: What it is, a :class:`ResourceKind` or its name.
        parent_id: Resource that it is behind; what is sold below counts there. Empty for none.
        area_id: Grid area.
        up_headroom_kw: Most in kW by which it can inject more or consume less; None is no limit. Whole watts are sent,
            rounded down, so that less is sold rather than more.
        down_headroom_kw: Most in kW by which it can inject less or consume more, likewise.
        aliases: Other names by scheme. Resources that share one are one thing.
        etag: Output: changes with every change. Where it is set, a registration changes this version only.
        same_resource_ids: Output: other resources that are the same thing; only of one that was fetched or linked.
        tenant_id: Output: tenant that registered it.
        sequence: Output: number of its last change in the ledger.
        create_time: Output: when it was made (UTC).
        update_time: Output: when it was changed last (UTC).
    """

    resource_id: str
    kind: ResourceKind | str
    parent_id: str = ""
    area_id: str = ""
    up_headroom_kw: float | None = None
    down_headroom_kw: float | None = None
    aliases: Aliases = field(default_factory=dict)
    etag: str = ""
    same_resource_ids: tuple[str, ...] = ()
    tenant_id: str = ""
    sequence: int = 0
    create_time: pd.Timestamp | None = None
    update_time: pd.Timestamp | None = None

    @classmethod
    def from_message(cls, message: resource_pb2.Resource, same_resource_ids: Sequence[str] = ()) -> Resource:
        """Read a resource of the contract."""
        aliases: dict[str, tuple[str, ...]] = {}
        for alias in message.aliases:
            aliases[alias.scheme] = (*aliases.get(alias.scheme, ()), alias.value)
        return cls(
            resource_id=message.resource_id,
            kind=resource_kind_text(message.kind),
            parent_id=message.parent_id,
            area_id=message.area_id,
            up_headroom_kw=optional_in_thousands(message, "up_headroom_w"),
            down_headroom_kw=optional_in_thousands(message, "down_headroom_w"),
            aliases=aliases,
            etag=message.etag,
            same_resource_ids=tuple(same_resource_ids),
            tenant_id=message.tenant_id,
            sequence=message.sequence,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )

    def to_message(self, write: FieldWriter, path: str) -> resource_pb2.Resource:
        """Write a resource of the contract.

        Args:
            write: Receives what is wrong with it.
            path: Where it stands in the request.
        """
        return resource_pb2.Resource(
            resource_id=self.resource_id,
            kind=write.named(resource_kind_name, self.kind, f"{path}.kind"),
            parent_id=self.parent_id,
            area_id=self.area_id,
            up_headroom_w=write.down(self.up_headroom_kw, f"{path}.up_headroom_kw"),
            down_headroom_w=write.down(self.down_headroom_kw, f"{path}.down_headroom_kw"),
            aliases=alias_messages(self.aliases),
            etag=self.etag,
        )


def alias_messages(aliases: Aliases) -> list[resource_pb2.Alias]:
    """Other names as messages of the contract."""
    return [resource_pb2.Alias(scheme=scheme, value=value) for scheme, value in _alias_pairs(aliases)]


def registration(
    resources: Sequence[Resource] | pd.DataFrame, validate_only: bool, request_id: str
) -> pb.RegisterResourcesRequest:
    """Write a registration of the contract; parameters as in ``EvflexClient.register_resources``.

    Raises:
        InvalidRequestError: Something cannot be written; each field is named.
    """
    given = resources_of(resources) if isinstance(resources, pd.DataFrame) else resources
    write = FieldWriter()
    messages = [resource.to_message(write, f"resources[{i}]") for i, resource in enumerate(given)]
    write.check()
    return pb.RegisterResourcesRequest(
        request_id=request_id or str(uuid.uuid4()), resources=messages, validate_only=validate_only
    )


def resources_of(frame: pd.DataFrame) -> list[Resource]:
    """Resources of a table with one row each.

    Columns are named as the attributes of :class:`Resource`; ``resource_id`` may be the index, and
    ``aliases.vin`` holds aliases of the scheme ``vin``. A missing value leaves the default.

    Raises:
        InvalidRequestError: Naming each column that cannot be read.
    """
    table = with_id_column(frame, "resource_id")
    schemes = [str(name) for name in table.columns if str(name).startswith(_ALIAS_PREFIX)]
    violations = faulty_columns(table, ("resource_id", "kind"), (*_COLUMNS, *schemes), "resources")
    columns: dict[str, list[object]] = {}
    for name in () if violations else table.columns:
        try:
            columns[name] = _values(name, table[name])
        except (TypeError, ValueError) as error:
            violations.append(Violation(f"resources.{name}", str(error)))
    if violations:
        raise InvalidRequestError.before_sending(violations)
    aliases = {name.removeprefix(_ALIAS_PREFIX): columns.pop(name) for name in schemes}
    template = Resource("", "")
    return [
        replace(
            template,
            **{name: values[row] for name, values in columns.items() if values[row] is not None},  # type: ignore[arg-type]
            aliases={scheme: str(values[row]) for scheme, values in aliases.items() if values[row] is not None},
        )
        for row in range(len(table))
    ]


def resources_query(area_id: str, kind: str, own: bool, page_size: int) -> pb.ListResourcesRequest:
    """Write a query of the contract.

    Raises:
        InvalidRequestError: The kind is unknown.
    """
    write = FieldWriter()
    wanted = write.named(resource_kind_name, kind, "kind")
    write.check()
    return pb.ListResourcesRequest(area_id=area_id, kind=wanted, own=own, page_size=page_size)


def _alias_pairs(aliases: Aliases) -> Iterator[tuple[str, str]]:
    for scheme, values in aliases.items():
        yield from ((scheme, value) for value in ([values] if isinstance(values, str) else values))


def _values(name: str, values: pd.Series) -> list[object]:
    missing = values.isna().tolist()
    read = numbers(values).tolist() if name in _POWER_COLUMNS else values.astype(str).tolist()
    return [None if gone else value for value, gone in zip(read, missing, strict=True)]
