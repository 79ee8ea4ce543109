"""What the admin pages need: indexes of their lists, dismissals, logins of those who have no Shopify

The indexes come first and are built while the store runs (CONCURRENTLY, each outside a transaction): whatever stops
this step leaves the schema at the version before, and the next try goes on with the indexes that are missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from models.migrations.online import create_indexes

revision = "0006"
down_revision = "0005"

# name, and what follows `create index concurrently`. Each serves one list, newest first, read backwards.
USED = (
    "(order_id is not null and not jsonb_exists(reactivated_orders, order_id::text)"
    " or kind in ('gift_card', 'store_credit') or cancel_refused = 'code_used')"
)
INDEXES = (
    ("ix_orders_listed", "orders (shop_id, status, placed_at, order_id)"),
    ("ix_orders_name", "orders (shop_id, lower(name))"),
    (
        "ix_orders_attention",
        "orders (shop_id, order_id)"
        """ where not flags <@ '["NO_CUSTOMER", "TEST_ORDER_IGNORED", "PLACED_BEFORE_INSTALL"]'::jsonb""",
    ),
    ("ix_timeline_taken", "timeline (shop_id, at) where kind in (3, 4, 5)"),
    ("ix_activity_kind", "activity (shop_id, kind, id)"),
    ("ix_activity_booked", "activity using brin (booked_at) with (autosummarize = on)"),
    ("ix_redemptions_refunded", "redemptions (shop_id, id) where returned = amount"),
    ("ix_redemptions_used", f"redemptions (shop_id, id) where returned < amount and {USED}"),
    (
        "ix_redemptions_untracked",
        f"redemptions (shop_id, id) where returned < amount and code_state = 'none' and {USED} is not true",
    ),
    (
        "ix_redemptions_unused",
        f"redemptions (shop_id, id) where returned < amount and code_state <> 'none' and {USED} is not true",
    ),
    ("ix_inbox_told", "inbox (shop_domain, received_at) where topic <> 'orders/read'"),
)


def upgrade() -> None:
    create_indexes(INDEXES)
    op.create_table(
        "dismissals",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(collation="C"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_dismissals_shops")),
        sa.PrimaryKeyConstraint("shop_id", "kind", "subject", name=op.f("pk_dismissals")),
    )
    _keys("admin_links", sa.Column("used_at", sa.DateTime(timezone=True), nullable=True))
    _keys(
        "admin_sessions",
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )


def _keys(table: str, used: sa.Column[object]) -> None:
    op.create_table(
        table,
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        used,
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f(f"ck_{table}_digest_whole")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f(f"fk_{table}_shops")),
        sa.PrimaryKeyConstraint("shop_id", "digest", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("digest", name=op.f(f"uq_{table}_digest")),
    )
