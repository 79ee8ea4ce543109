"""Shopify, both ways: installations, codes of redemptions, work outside, comparisons, merges, privacy"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

CODES_SO_FAR = """
insert into redemption_codes (shop_id, code_key, redemption_id, n, code)
select shop_id, code_key, id, 0, code from redemptions where code_key is not null;
update redemptions set code_state = 'tracked' where code_key is not null;
"""


def upgrade() -> None:
    op.create_table(
        "customer_aliases",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("survivor_id", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("customer_id <> survivor_id", name=op.f("ck_customer_aliases_of_another")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_customer_aliases_shops")),
        sa.PrimaryKeyConstraint("shop_id", "customer_id", name=op.f("pk_customer_aliases")),
    )
    op.create_index(
        "ix_customer_aliases_survivor", "customer_aliases", ["shop_id", "survivor_id"], unique=False
    )
    op.create_table(
        "installations",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("scopes", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("access_token", postgresql.BYTEA(), nullable=True),
        sa.Column("access_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refresh_token", postgresql.BYTEA(), nullable=True),
        sa.Column("refresh_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("obtained_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("uninstalled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("subscriptions_checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("subscriptions_error", sa.Text(), nullable=True),
        sa.Column("orders_read_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deep_read_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'needs_merchant') = (reason is not null)", name=op.f("ck_installations_reason_given")
        ),
        sa.CheckConstraint(
            "state <> 'uninstalled' or (access_token is null and refresh_token is null)",
            name=op.f("ck_installations_uninstalled_has_no_token"),
        ),
        sa.CheckConstraint(
            "state in ('active', 'needs_merchant', 'uninstalled')", name=op.f("ck_installations_state")
        ),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_installations_shops")),
        sa.PrimaryKeyConstraint("shop_id", name=op.f("pk_installations")),
    )
    op.create_table(
        "privacy_requests",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("orders", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column(
            "requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind in ('data_request', 'customer_redact', 'shop_redact')",
            name=op.f("ck_privacy_requests_kind"),
        ),
        sa.CheckConstraint("state in ('open', 'done')", name=op.f("ck_privacy_requests_state")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_privacy_requests_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_privacy_requests")),
        sa.UniqueConstraint("shop_id", "cause", name=op.f("uq_privacy_requests_shop_id_cause")),
    )
    op.create_table(
        "reconciliations",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("bulk_operation", sa.Text(), nullable=True),
        sa.Column("orders_read", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("missing", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("different", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("repaired", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("auto_refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind in ('recent', 'nightly', 'asked', 'import')", name=op.f("ck_reconciliations_kind")
        ),
        sa.CheckConstraint("state in ('running', 'done', 'failed')", name=op.f("ck_reconciliations_state")),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_reconciliations_shops")),
        sa.PrimaryKeyConstraint("shop_id", "id", name=op.f("pk_reconciliations")),
    )
    op.create_table(
        "redemption_codes",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("code_key", sa.Text(collation="C"), nullable=False),
        sa.Column("redemption_id", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("discount_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("n >= 0", name=op.f("ck_redemption_codes_n_not_negative")),
        sa.ForeignKeyConstraint(
            ["shop_id", "redemption_id"],
            ["redemptions.shop_id", "redemptions.id"],
            name=op.f("fk_redemption_codes_redemptions"),
        ),
        sa.PrimaryKeyConstraint("shop_id", "code_key", name=op.f("pk_redemption_codes")),
        sa.UniqueConstraint(
            "shop_id", "redemption_id", "n", name=op.f("uq_redemption_codes_shop_id_redemption_id_n")
        ),
    )
    op.add_column("shops", sa.Column("earning_from", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("inbox", "body", existing_type=postgresql.BYTEA(), nullable=True)
    op.add_column("outbox", sa.Column("attempts", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "outbox",
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column("outbox", sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("outbox", sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("outbox", sa.Column("error_code", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("error", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("outcome", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_outbox_pending", table_name="outbox")
    op.create_index(
        "ix_outbox_failed",
        "outbox",
        ["shop_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["not_before", "id"],
        unique=False,
        postgresql_where=sa.text("state in ('pending', 'leased')"),
    )
    op.add_column(
        "redemptions",
        sa.Column("reactivated_orders", postgresql.JSONB(), server_default="[]", nullable=False),
    )
    op.add_column("redemptions", sa.Column("reactivation_error", sa.Text(), nullable=True))
    op.add_column("redemptions", sa.Column("code_state", sa.Text(), server_default="none", nullable=False))
    op.add_column("redemptions", sa.Column("code_ends_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("redemptions", sa.Column("code_error", sa.Text(), nullable=True))
    op.add_column("redemptions", sa.Column("ended", sa.Text(), nullable=True))
    op.add_column("redemptions", sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_redemptions_code", table_name="redemptions")
    op.create_check_constraint(
        op.f("ck_outbox_lease_ends"), "outbox", "state <> 'leased' or leased_until is not null"
    )
    op.create_check_constraint(
        op.f("ck_redemptions_code_state"),
        "redemptions",
        "code_state in ('none', 'tracked', 'wanted', 'active', 'removed', 'failed')",
    )
    op.create_check_constraint(
        op.f("ck_redemptions_reactivation"),
        "redemptions",
        "reactivation in ('none', 'wanted', 'done', 'failed') and reactivations >= 0",
    )
    op.create_check_constraint(
        op.f("ck_redemptions_ended"),
        "redemptions",
        "ended in ('auto_refunded', 'code_failed', 'cancelled') and ended_at is not null or ended is null and ended_at is null",
    )
    op.execute(CODES_SO_FAR)
