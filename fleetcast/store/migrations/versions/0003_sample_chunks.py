"""Samples as chunks of Arrow, raw samples that are still to be rolled up, marks of sources, the quarantine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from alembic import op

from fleetcast.errors import StoreError

revision = "0003_sample_chunks"
down_revision = "0002"
branch_labels = None
depends_on = None

BUCKET_SECONDS = 3 * 3600
READ_AT_ONCE = 5_000
_SAMPLES = sa.table(
    "samples",
    sa.column("server", sa.Text()),
    sa.column("timestamp", sa.BigInteger()),
    sa.column("profile", sa.Text()),
    sa.column("metrics", sa.Text()),
)


def upgrade() -> None:
    """Make the tables and move the samples."""
    chunks = _make_tables()
    samples = _SAMPLES.c
    query = sa.select(samples.server, samples.timestamp, samples.profile, samples.metrics).order_by(samples.timestamp)
    found = op.get_bind().execute(query.execution_options(yield_per=READ_AT_ONCE))
    for bucket, rows in groupby(found, lambda row: row.timestamp // BUCKET_SECONDS):
        op.get_bind().execute(sa.insert(chunks), _chunk(bucket, rows))
    op.drop_index("ix_samples_timestamp", "samples")
    op.drop_table("samples")


def downgrade() -> None:
    """Refuse with `StoreError`: the older table has no room for what chunks hold."""
    raise StoreError("samples cannot be moved back into the older table: restore a backup of the database")


def _make_tables() -> sa.Table:
    chunks = op.create_table(
        "sample_chunks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sample_chunks"),
    )
    op.create_index("ix_sample_chunks_bucket_id", "sample_chunks", ["bucket", "id"])
    op.create_index("ix_sample_chunks_last", "sample_chunks", ["last"])
    op.create_table(
        "raw_chunks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_raw_chunks"),
    )
    op.create_table(
        "marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_marks"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("server", sa.Text(), nullable=True),
        sa.Column("timestamp", sa.Text(), nullable=True),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_server", "quarantine", ["server"])
    return chunks


def _chunk(bucket: int, rows: Iterator[Any]) -> dict[str, object]:
    found = [(row.server, row.timestamp, row.profile, json.loads(row.metrics)) for row in rows]
    servers, seconds, profiles, metrics = zip(*found, strict=True)
    columns = {
        "server": pa.array(servers, pa.string()).dictionary_encode(),
        "profile": pa.array(profiles, pa.string()).dictionary_encode(),
        "timestamp": pa.array(seconds, pa.int64()).cast(pa.timestamp("s", tz="UTC")),
    }
    for name in sorted({name for values in metrics for name in values}):
        columns[name] = pa.array([values.get(name) for values in metrics], pa.float64())
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    payload = sink.getvalue().to_pybytes()
    return {"bucket": bucket, "first": min(seconds), "last": max(seconds), "rows": len(seconds), "payload": payload}
