"""The books: shops, inbox, facts, ledger"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:

    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("shop_domain", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("triggered_at", sa.Text(), nullable=True),
        sa.Column("api_version", sa.Text(), nullable=True),
        sa.Column("body", postgresql.BYTEA(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state in ('pending', 'done', 'failed', 'discarded')", name=op.f("ck_inbox_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("shop_domain", "webhook_id", name=op.f("uq_inbox_shop_domain_webhook_id")),
    )
    op.create_index(
        "ix_inbox_failed",
        "inbox",
        ["shop_domain", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "ix_inbox_pending",
        "inbox",
        ["shop_domain", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "shops",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="installed", nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column(
            "installed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("state in ('installed', 'removed')", name=op.f("ck_shops_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shops")),
        sa.UniqueConstraint("domain", name=op.f("uq_shops_domain")),
    )
    op.create_table(
        "activity",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("booked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_activity_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_activity")),
    )
    op.create_index("ix_activity_customer", "activity", ["shop_id", "customer_id", "id"], unique=False)
    op.create_index("ix_activity_order", "activity", ["shop_id", "order_id", "id"], unique=False)
    op.create_table(
        "api_tokens",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_api_tokens_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_tokens_digest")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", postgresql.BYTEA(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("response", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_idempotency_keys_shops")),
        sa.PrimaryKeyConstraint("shop_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "order_codes",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_order_codes_shops")),
        sa.PrimaryKeyConstraint("shop_id", "code", "order_id", name=op.f("pk_order_codes")),
    )
    op.create_table(
        "orders",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=True),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        sa.Column("flags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("counted", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "status in ('unknown', 'open', 'partially_refunded', 'fully_refunded', 'voided', 'cancelled')",
            name=op.f("ck_orders_status"),
        ),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_orders_shops")),
        sa.PrimaryKeyConstraint("shop_id", "order_id", name=op.f("pk_orders")),
    )
    op.create_index("ix_orders_customer", "orders", ["shop_id", "customer_id", "placed_at"], unique=False)
    op.create_index(
        "ix_orders_flagged",
        "orders",
        ["shop_id", "order_id"],
        unique=False,
        postgresql_where=sa.text("flags <> '[]'"),
    )
    op.create_table(
        "outbox",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state in ('pending', 'leased', 'done', 'failed', 'cancelled')", name=op.f("ck_outbox_state")
        ),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_outbox_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("shop_id", "key", name=op.f("uq_outbox_shop_id_key")),
    )
    op.create_index(
        "ix_outbox_pending",
        "outbox",
        ["shop_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "programs",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("from_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(version = 1) = (from_at is null)", name=op.f("ck_programs_first_has_no_beginning")
        ),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_programs_shops")),
        sa.PrimaryKeyConstraint("shop_id", "version", name=op.f("pk_programs")),
    )
    op.create_table(
        "wallets",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("balance", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("debt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pending", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("folded_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spend_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("orders", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("points", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("pinned_tier", sa.Text(), nullable=True),
        sa.Column("tier_checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("balance >= 0", name=op.f("ck_wallets_balance_not_negative")),
        sa.CheckConstraint("debt >= 0", name=op.f("ck_wallets_debt_not_negative")),
        sa.CheckConstraint("pending >= 0", name=op.f("ck_wallets_pending_not_negative")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_wallets_shops")),
        sa.PrimaryKeyConstraint("shop_id", "customer_id", name=op.f("pk_wallets")),
    )
    op.create_table(
        "awards",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("mask", sa.Text(), nullable=False),
        sa.Column("base_minor", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reversed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reduced", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("debited", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("shortfall", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("status in ('pending', 'approved', 'cancelled')", name=op.f("ck_awards_status")),
        sa.CheckConstraint("0 <= reversed and reversed <= amount", name=op.f("ck_awards_cap")),
        sa.CheckConstraint(
            "reduced >= 0 and debited >= 0 and shortfall >= 0 and reduced + debited + shortfall = reversed",
            name=op.f("ck_awards_adds_up"),
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_awards_wallets"),
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "order_id"], ["orders.shop_id", "orders.order_id"], name=op.f("fk_awards_orders")
        ),
        sa.PrimaryKeyConstraint("shop_id", "order_id", "target", name=op.f("pk_awards")),
    )
    op.create_index("ix_awards_customer", "awards", ["shop_id", "customer_id"], unique=False)
    op.create_table(
        "customer_days",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("spend_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("orders", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("points", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_customer_days_wallets"),
        ),
        sa.PrimaryKeyConstraint("shop_id", "customer_id", "day", name=op.f("pk_customer_days")),
    )
    op.create_table(
        "entries",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("lot", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("event_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_kind", sa.SmallInteger(), nullable=False),
        sa.Column("event_sort", sa.BigInteger(), nullable=False),
        sa.Column("event_target", sa.Text(collation="C"), nullable=False),
        sa.Column("event_cause", sa.Text(collation="C"), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("booking_id", sa.BigInteger(), nullable=False),
        sa.Column("booked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_entries_never_zero")),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_entries_wallets"),
        ),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_entries")),
        sa.UniqueConstraint(
            "shop_id",
            "customer_id",
            "booking_id",
            "event_at",
            "event_cause",
            "event_target",
            "event_kind",
            "lot",
            "kind",
            name="uq_entries_one_posting",
        ),
    )
    op.create_index(
        "ix_entries_draws",
        "entries",
        ["shop_id", "customer_id", "event_target"],
        unique=False,
        postgresql_where=sa.text("event_kind = 5"),
    )
    op.create_index("ix_entries_event_at", "entries", ["shop_id", "customer_id", "event_at"], unique=False)
    op.create_table(
        "lots",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("lot", sa.Text(collation="C"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("remainder", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("remainder between 0 and amount", name=op.f("ck_lots_remainder_within_amount")),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_lots_wallets"),
        ),
        sa.PrimaryKeyConstraint("shop_id", "customer_id", "lot", name=op.f("pk_lots")),
    )
    op.create_index(
        "ix_lots_due",
        "lots",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("remainder > 0 and expires_at is not null"),
    )
    op.create_index(
        "ix_lots_live",
        "lots",
        ["shop_id", "customer_id", "expires_at", "at", "lot"],
        unique=False,
        postgresql_where=sa.text("remainder > 0"),
    )
    op.create_table(
        "redemptions",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("reward_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("code_key", sa.Text(collation="C"), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("returned", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("credited", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expired", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("restitution", sa.Text(), server_default="none", nullable=False),
        sa.Column("reactivations", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reactivation", sa.Text(), server_default="none", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(restitution = 'points') = (returned > 0)", name=op.f("ck_redemptions_one_benefit_once")
        ),
        sa.CheckConstraint(
            "restitution in ('none', 'points', 'code')", name=op.f("ck_redemptions_restitution")
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_redemptions_amount_positive")),
        sa.CheckConstraint(
            "credited >= 0 and expired >= 0 and credited + expired = returned and returned <= amount",
            name=op.f("ck_redemptions_returned_adds_up"),
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_redemptions_wallets"),
        ),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_redemptions_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_redemptions")),
    )
    op.create_index(
        "ix_redemptions_code",
        "redemptions",
        ["shop_id", "code_key"],
        unique=True,
        postgresql_where=sa.text("code_key is not null"),
    )
    op.create_index("ix_redemptions_customer", "redemptions", ["shop_id", "customer_id"], unique=False)
    op.create_index("ix_redemptions_order", "redemptions", ["shop_id", "order_id"], unique=False)
    op.create_table(
        "refunds",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("refund_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value_minor", sa.BigInteger(), nullable=False),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("policy_version", sa.BigInteger(), nullable=True),
        sa.Column("undone", sa.Boolean(), server_default="false", nullable=False),
        sa.CheckConstraint("value_minor >= 0", name=op.f("ck_refunds_value_not_negative")),
        sa.ForeignKeyConstraint(
            ["shop_id", "order_id"], ["orders.shop_id", "orders.order_id"], name=op.f("fk_refunds_orders")
        ),
        sa.PrimaryKeyConstraint("shop_id", "refund_id", name=op.f("pk_refunds")),
    )
    op.create_index("ix_refunds_order", "refunds", ["shop_id", "order_id"], unique=False)
    op.create_table(
        "timeline",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("cause", sa.Text(collation="C"), nullable=False),
        sa.Column("target", sa.Text(collation="C"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sort_id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("redemption_id", sa.BigInteger(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("grace_days", sa.Integer(), nullable=False),
        sa.Column("carry_debt", sa.Boolean(), nullable=False),
        sa.Column("reduces_pending", sa.Boolean(), nullable=False),
        sa.Column("ratio", sa.Text(), nullable=True),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("short", sa.BigInteger(), nullable=False),
        sa.Column("expired", sa.BigInteger(), nullable=False),
        sa.Column("debt_change", sa.BigInteger(), nullable=False),
        sa.Column("folded", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "amount >= 0 and moved >= 0 and short >= 0 and expired >= 0",
            name=op.f("ck_timeline_not_negative"),
        ),
        sa.CheckConstraint(
            "not folded or moved + short + expired = amount", name=op.f("ck_timeline_adds_up")
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_timeline_wallets"),
        ),
        sa.PrimaryKeyConstraint(
            "shop_id", "customer_id", "kind", "cause", "target", name=op.f("pk_timeline")
        ),
    )
    op.create_index(
        "ix_timeline_due", "timeline", ["at"], unique=False, postgresql_where=sa.text("not folded")
    )
    op.create_index("ix_timeline_order", "timeline", ["shop_id", "order_id"], unique=False)
    op.create_index(
        "ix_timeline_order_of_time",
        "timeline",
        ["shop_id", "customer_id", "at", "kind", "sort_id", "target"],
        unique=False,
    )
    op.create_index("ix_timeline_redemption", "timeline", ["shop_id", "redemption_id"], unique=False)
    op.create_table(
        "transactions",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("refund_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("shop_amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["shop_id", "order_id"],
            ["orders.shop_id", "orders.order_id"],
            name=op.f("fk_transactions_orders"),
        ),
        sa.PrimaryKeyConstraint("shop_id", "order_id", "transaction_id", name=op.f("pk_transactions")),
    )
    op.create_table(
        "redemption_members",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("redemption_id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_redemption_members_amount_positive")),
        sa.ForeignKeyConstraint(
            ["shop_id", "customer_id"],
            ["wallets.shop_id", "wallets.customer_id"],
            name=op.f("fk_redemption_members_wallets"),
        ),
        sa.ForeignKeyConstraint(
            ["shop_id", "redemption_id"],
            ["redemptions.shop_id", "redemptions.id"],
            name=op.f("fk_redemption_members_redemptions"),
        ),
        sa.PrimaryKeyConstraint(
            "shop_id", "redemption_id", "customer_id", name=op.f("pk_redemption_members")
        ),
    )
