"""Enums of the contract by the short names that people write."""

from __future__ import annotations

from typing import Protocol


class EnumTable(Protocol):
    """Names and numbers of an enum of the contract."""

    def keys(self) -> list[str]:
        """Names."""

    def Name(self, number: int) -> str:  # noqa: N802
        """Name of a number."""


def full_name(enum: EnumTable, prefix: str, name: str) -> str:
    """Name of the contract for a short one, for example ``COOLING_ONAN`` for ``ONAN``; empty is unspecified.

    Raises:
        ValueError: The name is unknown; the known ones are listed.
    """
    names = [key.removeprefix(prefix) for key in enum.keys()]  # noqa: SIM118 - no mapping
    if name and name not in names:
        known = ", ".join(key for key in names if key != "UNSPECIFIED")
        raise ValueError(f"unknown {prefix.lower().replace('_', ' ').strip()} {name!r}; known are {known}")
    return f"{prefix}{name or 'UNSPECIFIED'}"


def short_name(enum: EnumTable, prefix: str, number: int) -> str:
    """Short name of a number; a number that is newer than this client is its own name."""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)
