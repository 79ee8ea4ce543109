"""Redemptions are found by their order: each look at an order asks for them"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("ix_redemptions_order", "redemptions", ["shop_id", "order_id"])
