"""Customers merged and customers forgotten: one lock a shop, one index of what is kept, one way to blank a sentence"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# Work on a shop's books shares this lock; a merge of two customers holds it alone (R33). The function reads after it
# has the lock, which one statement of plain SQL would not. 0x554E57: a class of locks of our own, the key is the shop.
HOLD = """
create function hold_customers(shop integer) returns boolean language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(5590615, shop);
  return exists (select from customer_aliases a where a.shop_id = shop);
end $$;
create function hold_customers_alone(shop integer) returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(5590615, shop);
end $$;
"""

# The record of what happened stays append-only but for one thing: what a person wrote can be blanked, in a transaction
# that says it redacts. No number, no id and no time can change on this way.
BLANKING = """
create function refuse_change_of_activity() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and current_setting('unwind.redacting', true) = 'on' and old.detail ? 'reason'
     and new.detail = old.detail || '{"reason": "(erased)"}'::jsonb
     and to_jsonb(new) - 'detail' = to_jsonb(old) - 'detail' then
    return new;
  end if;
  raise exception 'activity is append-only: corrections are new rows' using errcode = 'restrict_violation';
end $$;
drop trigger activity_append_only on activity;
create trigger activity_append_only before update or delete on activity
  for each row execute function refuse_change_of_activity();
"""


def upgrade() -> None:
    op.create_index(
        "ix_inbox_bodies",
        "inbox",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("body is not null and state in ('done', 'discarded')"),
    )
    op.execute(HOLD)
    op.execute(BLANKING)
