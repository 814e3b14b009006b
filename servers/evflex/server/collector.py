"""Keeps the garbage collector from stopping a server for longer than a request takes.

A ledger and a portfolio hold millions of objects without cycles, which counting references frees. The collector looks
through all of them for cycles each time they have grown by a quarter, while every thread waits.
"""

from __future__ import annotations

import gc

# Objects made before the young ones are looked through, and how often before the middle-aged and the old ones are.
_YOUNG, _MIDDLE, _OLD = 20_000, 20, 1_000


def calm_collector() -> None:
    """Leave what there is out of collections, and look through what is old a thousand times less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
