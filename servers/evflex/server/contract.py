"""What the contract declares about its RPCs, read from the generated descriptors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pool

from evflex.common.v1 import scope_pb2


@lru_cache(maxsize=1024)
def required_scope(method: str) -> str:
    """Scope that an RPC requires; empty where its method declares none or is unknown.

    Args:
        method: Full name, such as `/evflex.charging.v1.ChargingService/GetSchedule`.
    """
    service_name, _, method_name = method.lstrip("/").partition("/")
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
    except KeyError:
        return ""
    descriptor = service.methods_by_name.get(method_name)
    if descriptor is None:
        return ""
    extensions: Any = descriptor.GetOptions().Extensions
    return str(extensions[scope_pb2.required_scope])
