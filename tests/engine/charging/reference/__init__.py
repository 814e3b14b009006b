"""Slow, obvious twins of the charging kernel: they share no code with it."""
