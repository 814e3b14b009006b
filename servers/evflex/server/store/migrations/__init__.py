"""Alembic environment; `env.py` and `versions` are run by :mod:`evflex.server.store.database`."""
