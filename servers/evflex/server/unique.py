"""Identifiers that nothing else has."""

from __future__ import annotations

import os
import random
import uuid

# Seeded by the system once. Asking the system each time gives other threads the interpreter, and a thread that answers
# many requests in turn waits for it each time; nothing here has to be hard to guess.
_random = random.Random()
# Two processes of one origin must not draw the same.
os.register_at_fork(after_in_child=_random.seed)


def new_uuid() -> str:
    """A random UUID."""
    return str(uuid.UUID(int=_random.getrandbits(128), version=4))


def new_hex() -> str:
    """16 random hexadecimal digits."""
    return f"{_random.getrandbits(64):016x}"
