"""Runs the migrations on the connection that `fleetcast.store.migrate` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from fleetcast.store import tables_remediation  # noqa: F401  (its tables belong to the metadata)
from fleetcast.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
