"""What merchants do: reversals, orders cancelled and refunded by hand, undo, imports, webhooks out"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

# Refunds that a merchant asks of us have ids of our own: far above Shopify's, below what 64 bits hold.
SEQUENCES = """
create sequence merchant_refund_ids start 9000000000000000000;
create sequence cancellation_ids;
"""


def upgrade() -> None:
    op.create_table(
        "customer_identifiers",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind in ('EMAIL', 'PHONE')", name=op.f("ck_customer_identifiers_kind")),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("ck_customer_identifiers_digest_whole")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_customer_identifiers_shops")),
        sa.PrimaryKeyConstraint("shop_id", "kind", "digest", name=op.f("pk_customer_identifiers")),
    )
    op.create_index(
        "ix_customer_identifiers_customer", "customer_identifiers", ["shop_id", "customer_id"], unique=False
    )
    op.create_table(
        "endpoints",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("events", postgresql.JSONB(), nullable=False),
        sa.Column("secret", postgresql.BYTEA(), nullable=True),
        sa.Column("old_secret", postgresql.BYTEA(), nullable=True),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("resting_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(state = 'paused') = (paused_reason is not null)", name=op.f("ck_endpoints_pause_has_reason")
        ),
        sa.CheckConstraint("state = 'deleted' or secret is not null", name=op.f("ck_endpoints_has_secret")),
        sa.CheckConstraint(
            "state <> 'deleted' or secret is null and old_secret is null",
            name=op.f("ck_endpoints_deleted_has_none"),
        ),
        sa.CheckConstraint("state in ('active', 'paused', 'deleted')", name=op.f("ck_endpoints_state")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_endpoints_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_endpoints")),
    )
    op.create_index(
        "ix_endpoints_live",
        "endpoints",
        ["shop_id"],
        unique=False,
        postgresql_where=sa.text("state <> 'deleted'"),
    )
    op.create_table(
        "imported_rows",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("reference", sa.Text(collation="C"), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("import_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("booked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_imported_rows_shops")),
        sa.PrimaryKeyConstraint("shop_id", "reference", name=op.f("pk_imported_rows")),
    )
    op.create_index("ix_imported_rows_customer", "imported_rows", ["shop_id", "customer_id"], unique=False)
    op.create_table(
        "imports",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("lines", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("booked", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seen_before", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('running', 'done')", name=op.f("ck_imports_state")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_imports_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_imports")),
        sa.UniqueConstraint("shop_id", "digest", name=op.f("uq_imports_shop_id_digest")),
    )
    op.create_table(
        "opening_days",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("reference", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spend_minor", sa.BigInteger(), nullable=False),
        sa.Column("orders", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "spend_minor >= 0 and orders >= 0 and points >= 0", name=op.f("ck_opening_days_not_negative")
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_opening_days_wallets"),
        ),
        sa.PrimaryKeyConstraint("shop_id", "reference", name=op.f("pk_opening_days")),
    )
    op.create_index("ix_opening_days_customer", "opening_days", ["shop_id", "customer_id"], unique=False)
    op.create_table(
        "messages",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("key", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sequence > 0", name=op.f("ck_messages_sequence_positive")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_messages_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_messages")),
        sa.UniqueConstraint(
            "shop_id", "subject", "sequence", name=op.f("uq_messages_shop_id_subject_sequence")
        ),
    )
    op.create_index("ix_messages_created", "messages", ["created_at"], unique=False)
    op.create_table(
        "message_subjects",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_message_subjects_shops")),
        sa.PrimaryKeyConstraint("shop_id", "subject", name=op.f("pk_message_subjects")),
    )
    op.create_table(
        "reversal_locks",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_reversal_locks_shops")),
        sa.PrimaryKeyConstraint("shop_id", "customer_id", name=op.f("pk_reversal_locks")),
    )
    op.create_table(
        "deliveries",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("sends", sa.Integer(), server_default="1", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state in ('pending', 'waiting', 'delivered', 'failed', 'cancelled')",
            name=op.f("ck_deliveries_state"),
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "endpoint_id"],
            ["endpoints.shop_id", "endpoints.id"],
            name=op.f("fk_deliveries_endpoints"),
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "message_id"],
            ["messages.shop_id", "messages.id"],
            name=op.f("fk_deliveries_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "shop_id", "endpoint_id", "message_id", name=op.f("uq_deliveries_shop_id_endpoint_id_message_id")
        ),
    )
    op.create_index("ix_deliveries_message", "deliveries", ["shop_id", "message_id"], unique=False)
    op.create_index("ix_deliveries_endpoint", "deliveries", ["shop_id", "endpoint_id", "id"], unique=False)
    op.create_index(
        "ix_deliveries_pending",
        "deliveries",
        ["shop_id", "endpoint_id", "not_before", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_waiting",
        "deliveries",
        ["shop_id", "endpoint_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["shop_id", "not_before", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["shop_id", "delivery_id"],
            ["deliveries.shop_id", "deliveries.id"],
            name=op.f("fk_delivery_attempts_deliveries"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_delivery_attempts")),
    )
    op.create_index(
        "ix_delivery_attempts_delivery", "delivery_attempts", ["shop_id", "delivery_id", "id"], unique=False
    )
    op.create_table(
        "reversals",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("redemption_id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "code in ('removed', 'unchanged', 'stays_used', 'untracked', 'not_reachable')",
            name=op.f("ck_reversals_code"),
        ),
        sa.CheckConstraint("kind in ('cancelled', 'reversed')", name=op.f("ck_reversals_kind")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_reversals_amount_positive")),
        sa.ForeignKeyConstraint(
            ["shop_id", "redemption_id"],
            ["redemptions.shop_id", "redemptions.id"],
            name=op.f("fk_reversals_redemptions"),
        ),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_reversals")),
    )
    op.create_index("ix_reversals_customer", "reversals", ["shop_id", "customer_id", "at"], unique=False)
    op.create_index("ix_reversals_redemption", "reversals", ["shop_id", "redemption_id"], unique=False)
    op.add_column("shops", sa.Column("identifier_key", postgresql.BYTEA(), nullable=True))
    op.add_column("redemptions", sa.Column("cancel_refused", sa.Text(), nullable=True))
    op.add_column("redemptions", sa.Column("imported_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("refunds", sa.Column("origin", sa.Text(), server_default="shopify", nullable=False))
    op.add_column("refunds", sa.Column("reason", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_refunds_origin"), "refunds", "origin in ('shopify', 'merchant')")
    op.execute(SEQUENCES)
