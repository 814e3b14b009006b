"""Compile every kernel that a request needs, or load what was compiled before."""

from __future__ import annotations

from evflex.server.charging.decode import warm_up_decoding
from evflex.server.charging.encode import warm_up_encoding
from evflex.server.dispatch.warm_up import warm_up_dispatch
from evflex.server.engine_port import Engine, KernelEngine


def warm_up(engine: Engine | None = None) -> None:
    """Compile the translators' kernels and the engine's, which are then kept on disk."""
    warm_up_decoding()
    warm_up_encoding()
    warm_up_dispatch()
    (engine or KernelEngine()).warm_up()
