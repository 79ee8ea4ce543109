"""What the database itself upholds: an append-only record, and balances that only entries can move (R40)"""

from alembic import op

revision = "0002"
down_revision = "0001"

APPEND_ONLY = """
create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: corrections are new rows', tg_table_name using errcode = 'restrict_violation';
end $$;
create trigger entries_append_only before update or delete on entries for each row execute function refuse_change();
create trigger entries_no_truncate before truncate on entries for each statement execute function refuse_change();
create trigger activity_append_only before update or delete on activity for each row execute function refuse_change();
create trigger activity_no_truncate before truncate on activity for each statement execute function refuse_change();
create trigger programs_append_only before update or delete on programs for each row execute function refuse_change();
"""

# One statement's entries move their lots and wallets by the same sums: balance = sum of entries = sum of remainders.
POSTING = """
create function post_entries() returns trigger language plpgsql as $$
begin
  update lots l set remainder = l.remainder + s.amount
    from (select shop_id, customer_id, lot, sum(amount)::bigint as amount from added group by 1, 2, 3) s
   where l.shop_id = s.shop_id and l.customer_id = s.customer_id and l.lot = s.lot and s.amount <> 0;
  if exists (select 1 from added a left join lots l using (shop_id, customer_id, lot) where l.lot is null) then
    raise exception 'an entry names a lot that is not there' using errcode = 'foreign_key_violation';
  end if;
  update wallets w set balance = w.balance + s.amount
    from (select shop_id, customer_id, sum(amount)::bigint as amount from added group by 1, 2) s
   where w.shop_id = s.shop_id and w.customer_id = s.customer_id and s.amount <> 0;
  return null;
end $$;
create trigger entries_post after insert on entries
  referencing new table as added for each statement execute function post_entries();

create function refuse_direct_change() returns trigger language plpgsql as $$
begin
  raise exception '% moves by entries only', tg_argv[0] using errcode = 'restrict_violation';
end $$;
create trigger wallets_balance_by_entries before update on wallets for each row
  when (old.balance is distinct from new.balance and pg_trigger_depth() = 0)
  execute function refuse_direct_change('a balance');
create trigger lots_remainder_by_entries before update on lots for each row
  when (old.remainder is distinct from new.remainder and pg_trigger_depth() = 0)
  execute function refuse_direct_change('a lot');
create function refuse_opening_amount() returns trigger language plpgsql as $$
begin
  raise exception 'a new row starts at zero: % moves by entries only', tg_argv[0] using errcode = 'restrict_violation';
end $$;
create trigger wallets_open_empty before insert on wallets for each row
  when (new.balance <> 0) execute function refuse_opening_amount('a balance');
create trigger lots_open_empty before insert on lots for each row
  when (new.remainder <> 0) execute function refuse_opening_amount('a lot');
"""

NUMBERS = """
create sequence booking_ids;
create sequence grant_ids;
alter table inbox alter column body set storage external;
"""


def upgrade() -> None:
    op.execute(APPEND_ONLY)
    op.execute(POSTING)
    op.execute(NUMBERS)
