"""Indexes of tables that are in use.

The rules of migrations are in docs/deploy.md; `tests/flows/test_migrations.py` upholds them.
"""

from __future__ import annotations

from collections.abc import Iterable

from alembic import op
from sqlalchemy import text

STANDS = text("select indisvalid from pg_index where indexrelid = to_regclass(:name)")


def create_indexes(indexes: Iterable[tuple[str, str]]) -> None:
    """Indexes (name, and what follows `on`) made while their tables are written to, each outside a transaction.

    They come first in a migration: what came before them would stand without its version. Whatever interrupts them,
    the next try goes on where it was: those that stand are left, one that was left broken is made anew. They wait for
    transactions that are older than they are, and nobody waits for them meanwhile; so they have no time limits.
    """
    with op.get_context().autocommit_block():
        op.execute("set statement_timeout = 0")
        op.execute("set lock_timeout = 0")
        for name, what in indexes:
            stands = op.get_bind().execute(STANDS, {"name": name}).scalar()
            if stands is False:
                op.execute(f"drop index concurrently {name}")
            if not stands:
                op.execute(f"create index concurrently {name} on {what}")
        op.execute("reset statement_timeout")
        op.execute("reset lock_timeout")
