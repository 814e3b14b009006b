"""Opaque tokens that clients hand back: where a page ends, and how far a watch has come."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

from evflex.server.errors import invalid_field

_LAYOUT = struct.Struct(">Q8s")


def make_token(purpose: str, position: int) -> str:
    """A token for `position`, valid only for this purpose (the RPC and what it was asked)."""
    raw = _LAYOUT.pack(position, _seal(purpose, position))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_token(field: str, purpose: str, token: str) -> int:
    """The position in a token.

    Raises:
        ServiceError: INVALID_ARGUMENT, the token was not made here for this purpose.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        position, seal = _LAYOUT.unpack(raw)
    except (binascii.Error, ValueError, struct.error):
        raise invalid_field(field, "must be a token from an earlier answer") from None
    if seal != _seal(purpose, position):
        raise invalid_field(field, "must be a token from an earlier answer to the same request")
    return int(position)


def _seal(purpose: str, position: int) -> bytes:
    """Guards against mistakes, not against forgery: a position reveals and opens nothing."""
    return hashlib.blake2b(f"{purpose}\0{position}".encode(), digest_size=8).digest()
