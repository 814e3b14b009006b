"""Slow, obvious twins of portfolio dispatch: they share no code with it."""
