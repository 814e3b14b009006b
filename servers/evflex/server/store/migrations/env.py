"""Runs migrations on the connection that the server hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from evflex.server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()
