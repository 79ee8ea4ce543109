"""What a person should look at: each thing with what happened, what to do, and what can be done at once.

items      of one kind a page at a time, or the newest of each
dismiss    put aside; a thing comes back when its cause happens again
retry      as the operator's commands do it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound, Refused
from tasks.steps import endpoints, failed, outbox, sql
from tasks.steps.attention_words import (
    CONNECTION,
    ENDPOINTS,
    EVENTS,
    FLAGGED,
    FLAGS,
    OUTSIDE,
    PRIVACY,
    RECONCILE,
    event_title,
)
from tasks.steps.installations import TOKEN_DEAD, missing_scopes
from tasks.steps.listings import NEEDS_A_LOOK, QUIET_FLAGS
from tasks.steps.paging import Page
from tasks.steps.shops import by_id
from tasks.steps.words import ADVICE

KINDS = ("connection", "failed", "order", "outbox", "endpoint", "reconcile", "privacy")
DISMISSABLE = ("failed", "order", "outbox", "endpoint", "reconcile")
RETRIED = ("failed", "outbox", "endpoint")
LIMIT = 50
ID_MAX = 2**63 - 1

Item = dict[str, Any]

FAILED = text(
    "select i.id, i.topic, i.order_id, i.error_code, i.error, i.received_at, i.body is null as erased from inbox i"
    " where i.shop_domain = (select domain from shops where id = :shop_id) and i.state = 'failed' and i.id < :before"
    " order by i.id desc limit :limit"
)
# A flag comes back when money or points of its order moved after it was put aside, by when that was booked here.
MOVED = (
    "(select greatest(o.seen_at, max(a.booked_at)) from activity a where a.shop_id = o.shop_id"
    " and a.order_id = o.order_id and a.kind in ('points.reversed', 'redemption.returned', 'refund.recorded',"
    "  'order.cancelled', 'order.refunded', 'refund.undone', 'cancellation.undone', 'reversal.undone'))"
)
FLAGGED_ORDERS = (
    "select o.shop_id, o.order_id, o.name, o.seen_at, loud.flags as loud from orders o"
    " cross join lateral (select array_agg(f.flag order by f.flag) as flags from jsonb_array_elements_text(o.flags) f(flag)"
    "  left join dismissals d on d.shop_id = o.shop_id and d.kind = 'order' and d.subject = o.order_id || ':' || f.flag"
    f"  where f.flag <> all (array{list(QUIET_FLAGS)!r}) and (d.at is null or d.at < {MOVED})) loud"
    f" where o.shop_id = :shop_id and {NEEDS_A_LOOK.replace('flags', 'o.flags')} and o.order_id < :before"
    " and loud.flags is not null order by o.order_id desc limit :limit"
)
ORDERS = text(f"select o.*, {MOVED} as at from ({FLAGGED_ORDERS}) o order by o.order_id desc")
OUTBOX = text(
    "select o.id, o.kind, o.payload, o.error_code, o.error, o.finished_at, o.created_at from outbox o"
    " left join dismissals d on d.shop_id = o.shop_id and d.kind = 'outbox' and d.subject = o.id::text"
    " where o.shop_id = :shop_id and o.state = 'failed' and o.id < :before"
    " and (d.at is null or d.at < coalesce(o.finished_at, o.created_at)) order by o.id desc limit :limit"
)
PAUSED = text(
    "select * from (select e.id, e.url, e.paused_reason, d.at as dismissed_at,"
    "  coalesce((select max(a.booked_at) from activity a where a.shop_id = e.shop_id and a.kind = 'endpoint.paused'"
    "   and a.target = 'endpoint:' || e.id), e.failing_since, e.created_at) as at from endpoints e"
    "  left join dismissals d on d.shop_id = e.shop_id and d.kind = 'endpoint' and d.subject = e.id::text"
    "  where e.shop_id = :shop_id and e.state = 'paused' and e.paused_reason in ('failing', 'gone')) e"
    " where id < :before and (dismissed_at is null or dismissed_at < at) order by id desc limit :limit"
)
INSTALLATION = text(
    "select state, reason, scopes, subscriptions_error, coalesce(uninstalled_at, refreshed_at, obtained_at) as at"
    " from installations where shop_id = :shop_id"
)
# The last run of each kind, where it failed and nobody put that aside. One kind runs each quarter of an hour, another once
# a night: among the last 200 there are two nights.
RECONCILED = text(
    "select r.id, r.kind, r.error, r.finished_at from (select distinct on (kind) * from (select * from reconciliations"
    "   where shop_id = :shop_id and state <> 'running' order by id desc limit 200) latest order by kind, id desc) r"
    " left join dismissals d on d.shop_id = r.shop_id and d.kind = 'reconcile' and d.subject = r.id::text"
    " where r.state = 'failed' and r.error <> 'interrupted' and r.id < :before"
    " and (d.at is null or d.at < r.finished_at) order by r.id desc limit :limit"
)
REQUESTS = text(
    "select id, kind, customer_id, requested_at from privacy_requests where shop_id = :shop_id and state = 'open'"
    " and id < :before order by id desc limit :limit"
)
DISMISS = text(
    "insert into dismissals (shop_id, kind, subject, at, by) values (:shop_id, :kind, :subject, :at, :by)"
    " on conflict (shop_id, kind, subject) do update set at = excluded.at, by = excluded.by"
)
FLAGS_OF = text("select flags from orders where shop_id = :shop_id and order_id = :id")
OUTBOX_OF = text("select state from outbox where shop_id = :shop_id and id = :id")
STANDS = {
    "endpoint": text(
        "select 1 from endpoints where shop_id = :shop_id and id = :id and state = 'paused'"
        " and paused_reason in ('failing', 'gone')"
    ),
    "reconcile": text(
        "select 1 from reconciliations where shop_id = :shop_id and id = :id and state = 'failed'"
    ),
    "outbox": text("select 1 from outbox where shop_id = :shop_id and id = :id and state = 'failed'"),
}


def items(
    connection: Connection,
    shop_id: int,
    *,
    kind: str | None = None,
    cursor: int | None = None,
    limit: int = LIMIT,
    scopes: Sequence[str] = (),
) -> Page:
    """What a person should look at, of one kind, the newest first; without a `kind` the newest so many of each, by KINDS.

    scopes: what the app needs of Shopify, to name what is missing
    """
    if kind is None:
        rows = [
            row
            for each in KINDS
            for row in items(connection, shop_id, kind=each, limit=limit, scopes=scopes).rows
        ]
        return Page(rows=rows, cursor=None)
    if kind == "connection":
        return Page(rows=_connection(connection, shop_id, scopes), cursor=None)
    statement, key, shown = LISTS[kind]
    found = sql.fetch(connection, statement, shop_id=shop_id, before=cursor or ID_MAX, limit=limit + 1)
    more = len(found) > limit
    return Page(
        rows=[shown(row) for row in found[:limit]],
        cursor=getattr(found[limit - 1], key) if more else None,
    )


def counts(connection: Connection, shop_id: int, *, scopes: Sequence[str] = ()) -> dict[str, int]:
    """How many there are of each kind, and in all."""
    found = {"connection": len(_connection(connection, shop_id, scopes))}
    for kind, counted in COUNTS.items():
        [row] = sql.fetch(connection, counted, shop_id=shop_id, before=ID_MAX, limit=ID_MAX)
        found[kind] = row.found
    return {**{kind: found[kind] for kind in KINDS}, "total": sum(found.values())}


def dismiss(
    connection: Connection,
    shop_id: int,
    kind: str,
    id: int,
    *,
    by: str,
    now: datetime | None = None,
) -> None:
    """Put something aside. A parked event is left for good; what else is put aside comes back when it happens again.

    by: who did. Safe to run twice. Raises NotFound; Refused: not_failed (an event that is not parked any more),
    not_dismissable (what only its remedy ends).
    """
    if kind not in DISMISSABLE:
        raise Refused("not_dismissable", "this stays until it is put right; see what to do")
    if kind == "failed":
        failed.discard(connection, by_id(connection, shop_id).domain, id)
        return
    at = now or datetime.now(UTC)
    for subject in _subjects(connection, shop_id, kind, id):
        said = {"shop_id": shop_id, "kind": kind, "subject": subject, "at": at, "by": by}
        connection.execute(DISMISS, said)


def retry(connection: Connection, shop_id: int, kind: str, id: int, *, by: str = "session") -> None:
    """Try something again. Raises NotFound; Refused: not_failed, body_erased, not_retryable."""
    if kind == "failed":
        failed.retry(connection, by_id(connection, shop_id).domain, id)
    elif kind == "outbox":
        if connection.execute(OUTBOX_OF, {"shop_id": shop_id, "id": id}).one_or_none() is None:
            raise NotFound("outbox row", id)
        outbox.retry(connection, id)
    elif kind == "endpoint":
        endpoints.change(connection, shop_id, id, state=endpoints.ACTIVE, by=by)
    else:
        raise Refused("not_retryable", "there is nothing here that can be tried again; see what to do")


def _subjects(connection: Connection, shop_id: int, kind: str, id: int) -> list[str]:
    """What a dismissal is kept under: for an order, each of its flags. Raises NotFound."""
    key = {"shop_id": shop_id, "id": id}
    if kind == "order":
        flags = connection.execute(FLAGS_OF, key).scalar_one_or_none() or ()
        subjects = [f"{id}:{flag}" for flag in flags if flag not in QUIET_FLAGS]
    else:
        subjects = [str(id)] if connection.execute(STANDS[kind], key).one_or_none() is not None else []
    if not subjects:
        raise NotFound(f"{kind} that needs attention", id)
    return subjects


# -- each kind ---------------------------------------------------------------------------------------


def _item(kind: str, id: object, at: datetime | None, **said: Any) -> Item:
    """One thing; `severity` is `wrong` where value may be missing or nothing works, else `look`."""
    empty = {"code": None, "severity": "look", "link": None}
    return {
        "kind": kind,
        "id": str(id),
        **empty,
        **said,
        "at": None if at is None else at.isoformat(),
        "actions": [
            *(["retry"] if kind in RETRIED and said.get("code") != "body_erased" else []),
            *(["dismiss"] if kind in DISMISSABLE else []),
        ],
    }


def _link(page: str, id: object = None) -> dict[str, str | None]:
    return {"page": page, "id": None if id is None else str(id)}


def _of_event(row: Row[Any]) -> Item:
    code = "body_erased" if row.erased else (row.error_code or "internal")
    advice = EVENTS.get(code, EVENTS[""])
    said = f" ({row.error})" if row.error and not row.erased else ""
    return _item(
        "failed",
        row.id,
        row.received_at,
        title=event_title(row.topic, row.error_code),
        what=f"{row.topic}: {advice.what}{said}",
        remedy=advice.remedy,
        code=code,
        severity="wrong",
        link=None if row.order_id is None else _link("order", row.order_id),
    )


def _of_order(row: Row[Any]) -> Item:
    name = row.name or f"with the number {row.order_id}"
    advice = [ADVICE[flag] for flag in row.loud if flag in ADVICE]
    return _item(
        "order",
        row.order_id,
        row.at,
        title=f"Order {name}",
        what=" ".join(FLAGS.get(flag, FLAGGED) for flag in row.loud),
        remedy=" ".join(f"{each}." for each in advice) or "Open it and see its history.",
        code=",".join(row.loud),
        link=_link("order", row.order_id),
    )


def _of_outbox(row: Row[Any]) -> Item:
    advice = OUTSIDE.get(row.kind, OUTSIDE[""])
    redemption, order = (row.payload.get(name) for name in ("redemption_id", "order_id"))
    link = _link("redemption", redemption) if redemption else _link("order", order) if order else None
    return _item(
        "outbox",
        row.id,
        row.finished_at or row.created_at,
        title=advice.what.rstrip("."),
        what=f"Shopify was asked, and it was not done: {row.error or row.error_code}",
        remedy=advice.remedy,
        code=row.error_code,
        severity="wrong",
        link=link,
    )


def _of_endpoint(row: Row[Any]) -> Item:
    advice = ENDPOINTS[row.paused_reason]
    return _item(
        "endpoint",
        row.id,
        row.at,
        title="An endpoint is paused",
        what=f"{row.url}: {advice.what}",
        remedy=advice.remedy,
        code=row.paused_reason,
        link=_link("integrations", row.id),
    )


def _of_reconcile(row: Row[Any]) -> Item:
    return _item(
        "reconcile",
        row.id,
        row.finished_at,
        title="A comparison with Shopify failed",
        what=f"{RECONCILE.what} ({row.error})",
        remedy=RECONCILE.remedy,
        code=row.kind,
    )


def _of_request(row: Row[Any]) -> Item:
    advice = PRIVACY.get(row.kind, PRIVACY["data_request"])
    who = None if row.customer_id is None else _link("customer", row.customer_id)
    return _item(
        "privacy",
        row.id,
        row.requested_at,
        title="A request for personal data",
        what=advice.what,
        remedy=advice.remedy,
        code=row.kind,
        link=who,
    )


def _connection(connection: Connection, shop_id: int, scopes: Sequence[str]) -> list[Item]:
    """What is wrong between us and Shopify. A shop that was added by hand has no connection that could be."""
    row = connection.execute(INSTALLATION, {"shop_id": shop_id}).one_or_none()
    if row is None:
        return []
    found = []
    if row.state != "active":
        found.append(_trouble(row, row.reason or row.state, missing_scopes(scopes, row.scopes)))
    if row.subscriptions_error is not None and row.state != "uninstalled":
        found.append(_trouble(row, "subscriptions", []))
    return found


def _trouble(row: Row[Any], code: str, missing: Sequence[str]) -> Item:
    advice = CONNECTION.get(code, CONNECTION[""])
    named = f" It lacks {', '.join(missing)}." if missing and code == "scopes_missing" else ""
    named += f" ({row.subscriptions_error})" if code == "subscriptions" else ""
    return _item(
        "connection",
        code,
        row.at,
        title="The connection to Shopify",
        what=advice.what + named,
        remedy=advice.remedy,
        code=code,
        severity="wrong" if code in (*TOKEN_DEAD, "uninstalled", "scopes_missing") else "look",
        link=_link("install"),
    )


LISTS: Mapping[str, tuple[Any, str, Callable[[Row[Any]], Item]]] = {
    "failed": (FAILED, "id", _of_event),
    "order": (ORDERS, "order_id", _of_order),
    "outbox": (OUTBOX, "id", _of_outbox),
    "endpoint": (PAUSED, "id", _of_endpoint),
    "reconcile": (RECONCILED, "id", _of_reconcile),
    "privacy": (REQUESTS, "id", _of_request),
}
# Without what only a list shows: a shop may have thousands.
ORDERS_COUNTED = (
    "select 1 from orders o where o.shop_id = :shop_id and o.order_id < :before"
    f" and {NEEDS_A_LOOK.replace('flags', 'o.flags')} and exists (select from jsonb_array_elements_text(o.flags) f(flag)"
    f"  where f.flag <> all (array{list(QUIET_FLAGS)!r}) and not exists (select from dismissals d"
    "   where d.shop_id = o.shop_id and d.kind = 'order' and d.subject = o.order_id || ':' || f.flag"
    f"   and d.at >= {MOVED})) limit :limit"
)
COUNTS = {
    kind: text(f"select count(*) as found from ({ORDERS_COUNTED if kind == 'order' else listed.text}) listed")
    for kind, (listed, _, _) in LISTS.items()
}
