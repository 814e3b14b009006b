"""Slow, obvious power flows: they share no code with the engine but the network's dataclasses."""
