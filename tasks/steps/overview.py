"""Is all well: one look at a shop for whoever opens the app. Every figure is read by an index of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from models.rules.program import Program
from tasks.steps import attention, sql
from tasks.steps.installations import TOKEN_DEAD, missing_scopes
from tasks.steps.programs import programs_of
from tasks.steps.read import points

BACKLOG_MINUTES = 10  # an event that waits longer says that nobody is at work
BEHIND_HOURS = 26  # the nightly comparison should have come by then
TAKEN = ("reversed", "returned", "expired", "forgiven")

SHOP = text("select domain, currency, state from shops where id = :shop_id")
LAST_WEBHOOK = text(
    "select received_at from inbox where shop_domain = :domain and topic <> 'orders/read'"
    " order by received_at desc limit 1"
)
PENDING = text(
    "select count(*) as waiting, min(received_at) as oldest from inbox where shop_domain = :domain and state = 'pending'"
)
OUTBOX = text(
    "select (select count(*) from outbox where shop_id = :shop_id and state = 'failed') as failed,"
    " (select count(*) from outbox where shop_id = :shop_id and state in ('pending', 'leased')) as waiting"
)
RECONCILED = text("select * from reconciliations where shop_id = :shop_id order by id desc limit 1")
INSTALLATION = text(
    "select state, reason, scopes, access_token is not null as has_token, subscriptions_error, orders_read_until"
    " from installations where shop_id = :shop_id"
)
# As in the report of what is owed (tasks/steps/report.py): by the event's own time, in the program's time zone.
TAKEN_BACK = text(
    "select (at at time zone :zone)::date as day,"
    " coalesce(sum(amount) filter (where kind = 4), 0)::bigint as reversed,"
    " coalesce(sum(amount) filter (where kind = 3), 0)::bigint as returned,"
    " coalesce(sum(expired) filter (where kind = 3), 0)::bigint as expired,"
    " coalesce(sum(short) filter (where kind in (4, 5) and not carry_debt), 0)::bigint as forgiven"
    " from timeline where shop_id = :shop_id and kind in (3, 4, 5) and at >= :since and at < :until and folded"
    " group by 1"
)


def overview(
    connection: Connection, shop_id: int, now: datetime, *, scopes: Sequence[str] = ()
) -> dict[str, Any]:
    """What a shop's first page tells. scopes: what the app needs of Shopify, to name what is missing."""
    program = programs_of(connection, shop_id)[-1]
    [shop] = sql.fetch(connection, SHOP, shop_id=shop_id)
    found = {
        "shop": {"domain": shop.domain, "currency": shop.currency},
        "unit": {"kind": program.kind, "scale": program.scale},
        "time_zone": str(program.time_zone),
        **_arrivals(connection, shop.domain, now),
        "outbox": dict(sql.fetch(connection, OUTBOX, shop_id=shop_id)[0]._mapping),
        "reconcile": _reconciled(connection, shop_id),
        "connection": _connection(connection, shop_id, scopes),
        **_months(connection, shop_id, program, now),
        "attention": attention.counts(connection, shop_id, scopes=scopes),
    }
    found["failed"] = found["attention"]["failed"]
    word, sentence = verdict(found, now)
    return {"verdict": word, "sentence": sentence, **found}


def _arrivals(connection: Connection, domain: str, now: datetime) -> dict[str, Any]:
    last = sql.fetch(connection, LAST_WEBHOOK, domain=domain)
    [pending] = sql.fetch(connection, PENDING, domain=domain)
    age = 0 if pending.oldest is None else max(0, int((now - pending.oldest).total_seconds()))
    return {
        "last_webhook_at": _time(last[0].received_at) if last else None,
        "pending": {"count": pending.waiting, "oldest_at": _time(pending.oldest), "oldest_seconds": age},
    }


def _reconciled(connection: Connection, shop_id: int) -> dict[str, Any] | None:
    """The last comparison with Shopify; None before the first."""
    rows = sql.fetch(connection, RECONCILED, shop_id=shop_id)
    if not rows:
        return None
    [row] = rows
    plain = ("kind", "state", "orders_read", "missing", "different", "repaired", "error")
    return {
        "id": str(row.id),
        **{name: getattr(row, name) for name in plain},
        "started_at": _time(row.started_at),
        "finished_at": _time(row.finished_at),
    }


def _connection(connection: Connection, shop_id: int, scopes: Sequence[str]) -> dict[str, Any]:
    """How Shopify lets us in. `never`: a shop that was added by hand."""
    rows = sql.fetch(connection, INSTALLATION, shop_id=shop_id)
    if not rows:
        empty = dict.fromkeys(("reason", "subscriptions_error", "orders_read_until"))
        return {"state": "never", **empty, "connected": False, "missing_scopes": []}
    [row] = rows
    return {
        "state": row.state,
        "reason": row.reason,
        "connected": row.has_token and row.reason not in TOKEN_DEAD,
        "missing_scopes": [] if row.state == "uninstalled" else missing_scopes(scopes, row.scopes),
        "subscriptions_error": row.subscriptions_error,
        "orders_read_until": _time(row.orders_read_until),
    }


# -- points ------------------------------------------------------------------------------------------


def _months(connection: Connection, shop_id: int, program: Program, now: datetime) -> dict[str, Any]:
    """What was taken back and given back this month, day by day, and in the month before."""
    today = now.astimezone(program.time_zone).date()
    first = today.replace(day=1)
    before = (first - timedelta(days=1)).replace(day=1)
    span = {
        "since": _midnight(before, program.time_zone),
        "until": _midnight(_next(first), program.time_zone),
    }
    rows = sql.fetch(connection, TAKEN_BACK, shop_id=shop_id, zone=str(program.time_zone), **span)
    by_day: dict[date, dict[str, Any]] = {row.day: dict(row._mapping) for row in rows}
    days = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    return {
        "months": {"this": _summed(by_day, first, program), "last": _summed(by_day, before, program)},
        "days": [{"day": day.isoformat(), **_taken([by_day.get(day, {})], program)} for day in days],
    }


def _summed(by_day: Mapping[date, Mapping[str, Any]], first: date, program: Program) -> dict[str, Any]:
    rows = [row for day, row in by_day.items() if day.replace(day=1) == first]
    return {"month": f"{first:%Y-%m}", **_taken(rows, program)}


def _taken(rows: Sequence[Mapping[str, Any]], program: Program) -> dict[str, Any]:
    return {name: points(sum(row.get(name, 0) for row in rows), program) for name in TAKEN}


def _next(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)


# -- one word ----------------------------------------------------------------------------------------


def verdict(found: Mapping[str, Any], now: datetime) -> tuple[str, str]:
    """`wrong`: something does not work, or value waits. `look`: a person should look. `well`. With the reason in words."""
    wrong = list(_wrongs(found, now))
    if wrong:
        return "wrong", " ".join(wrong)
    open_ = found["attention"]["total"]
    if open_:
        return "look", f"Everything works. {_things(open_)} for you to look at."
    last = found["last_webhook_at"]
    if last is None:
        return "well", "Everything works. Shopify has not told of anything yet."
    return "well", "Everything works, and nothing waits for you."


def _wrongs(found: Mapping[str, Any], now: datetime) -> Sequence[str]:
    """Each trouble in a sentence."""
    said, link, pending = [], found["connection"], found["pending"]
    if link["state"] == "uninstalled":
        said.append("The app was uninstalled at Shopify.")
    elif link["state"] == "needs_merchant":
        said.append("The connection to Shopify needs you: open the app once from the store's admin.")
    if pending["oldest_seconds"] > BACKLOG_MINUTES * 60:
        minutes = pending["oldest_seconds"] // 60
        wait = "1 event waits" if pending["count"] == 1 else f"{pending['count']} events wait"
        said.append(f"{wait} to be processed, the oldest for {minutes} minutes.")
    if found["failed"]:
        said.append(f"{_counted(found['failed'], 'event')} could not be processed.")
    if found["attention"]["outbox"]:
        said.append(f"{_counted(found['attention']['outbox'], 'change')} could not be made at Shopify.")
    behind = link["orders_read_until"]
    if link["state"] == "active" and behind is not None and _hours_since(behind, now) > BEHIND_HOURS:
        said.append("The orders were not compared with Shopify's for more than a day.")
    return said


def _hours_since(at: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(at)).total_seconds() / 3600


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _things(count: int) -> str:
    return "There is one thing" if count == 1 else f"There are {count} things"


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
