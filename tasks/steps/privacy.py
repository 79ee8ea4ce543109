"""What customers and shops ask of their data through Shopify: kept as requests, answered, erased (docs/privacy.md).

We hold no name, no address, no e-mail of our own: facts and ledger know customers by Shopify's number. Personal are the
raw bodies of deliveries, what people typed as a reason, the answers kept for callers, what the lines of orders are
called, and the keyed hashes of addresses and telephone numbers. Those are what is erased; the
ledger stays, under opaque ids, and adds up as before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, text

from models.errors import NotFound, Unparseable
from tasks.steps import admin_logins, identifiers, sql
from tasks.steps.acts_guard import check_act
from tasks.steps.codec import dumps
from tasks.steps.event import Event
from tasks.steps.installations import forget
from tasks.steps.load import ShopRow
from tasks.steps.parse.fields import node_in, optional_id_in
from tasks.steps.survivors import hold, merged_into, survivor

log = structlog.get_logger()

ERASED = "(erased)"
AT_ONCE = 20_000  # bodies, and orders with named lines, erased by the act itself; the rest by the hourly job
BODIES_A_LOOK = 500  # read at once, to see whom they name
NEEDLES_MAX = 50  # the database looks for so many numbers itself; for more, reading every body is quicker
NUMBER = re.compile(rb"[0-9]+")
QUOTED_NUMBER = re.compile(r'"([0-9]+)"')  # how answers show ids
DUE_DAYS = 30  # by law and by Shopify's word
LATE_DAYS = 20  # from then on an open request is called overdue, while there is still time

ADD = text(
    "insert into privacy_requests (shop_id, kind, state, customer_id, orders, cause, detail, requested_at, done_at)"
    " values (:shop_id, :kind, :state, :customer_id, cast(:orders as jsonb), :cause, cast(:detail as jsonb),"
    " :requested_at, :done_at) on conflict (shop_id, cause) do nothing returning id"
)
CLOSE = text(
    "update privacy_requests set state = 'done', done_at = :now, detail = detail || cast(:detail as jsonb)"
    " where shop_id = :shop_id and id = :id and state = 'open'"
)
CLOSE_ALL = text(
    "update privacy_requests set state = 'done', done_at = :now, detail = detail || '{\"closed_by\": \"shop_redact\"}'"
    " where shop_id = :shop_id and state = 'open' and kind = 'data_request'"
)
OPEN_OR_ALL = text(
    "select r.id, s.domain, s.state as shop_state, r.kind, r.state, r.customer_id, r.orders, r.detail,"
    " r.requested_at, r.done_at from privacy_requests r join shops s on s.id = r.shop_id"
    " where (cast(:domain as text) is null or s.domain = :domain) and (:every or r.state = 'open')"
    " order by r.requested_at, r.id"
)
REQUEST = text("select * from privacy_requests where shop_id = :shop_id and id = :id")
SHOP_LOCKED = text("select state from shops where id = :shop_id for no key update")
OBTAINED = text("select obtained_at from installations where shop_id = :shop_id")
ORDERS_OF = text(
    "select order_id from orders where shop_id = :shop_id and customer_id = any(:ids) order by order_id"
)
BODIES_OF_ORDERS = text(
    "update inbox set body = null where shop_domain = :domain and state <> 'pending' and body is not null"
    " and order_id = any(:orders)"
)
BODIES_WITHOUT_ORDER = text(
    "select id, body from inbox where shop_domain = :domain and state <> 'pending' and body is not null"
    " and order_id is null and id > :after and (:every or"
    " exists (select from unnest(cast(:needles as bytea[])) n where position(n in body) > 0))"
    " order by id limit :limit"
)
ERASE_BODIES = text("update inbox set body = null where id = any(:ids) and body is not null")
BODIES_OF_SHOP = text(
    "update inbox set body = null where id in (select id from inbox where shop_domain = :domain"
    " and state <> 'pending' and body is not null limit :limit)"
)
DISCARD_PENDING = text(
    "update inbox set state = 'discarded', body = null, outcome = 'erased with its shop', processed_at = :now"
    " where shop_domain = :domain and state = 'pending' and id <> :id"
)
REDACTING = text("select set_config('unwind.redacting', :on, true)")
# What was typed of these people, or of these orders, whoever they belonged to then: a guest's order has no customer, and
# one that has a customer now may have had none when somebody wrote of it. `everybody`: of the whole shop.
OF_PEOPLE = "(:everybody or {customer} = any(cast(:people as bigint[])))"
OF_BOTH = (
    "(:everybody or {customer} = any(cast(:people as bigint[])) or {order} = any(cast(:orders as bigint[])))"
)
BLANK_REASONS = text(
    'update activity set detail = detail || \'{"reason": "(erased)"}\' where shop_id = :shop_id'
    " and detail ? 'reason' and detail->>'reason' <> '(erased)' and "
    + OF_BOTH.format(customer="customer_id", order="order_id")
)
BLANK_MESSAGES = text(  # a merchant's words, as they were told outside; the rest of a message names nobody
    'update messages set data = data || \'{"reason": "(erased)"}\' where shop_id = :shop_id'
    " and data->>'reason' <> '(erased)' and "
    + OF_BOTH.format(
        customer="coalesce(data->>'customer_id', data->'order'->>'customer_id')::bigint",
        order="coalesce(data->>'order_id', data->'order'->>'id')::bigint",
    )
)
BLANK_BY_HAND = (  # what was done by hand, and what is still to be done for it at Shopify
    text(
        "update reversals v set reason = '(erased)' from redemptions r where v.shop_id = :shop_id"
        " and v.reason <> '(erased)' and r.shop_id = v.shop_id and r.id = v.redemption_id and "
        + OF_BOTH.format(customer="v.customer_id", order="r.order_id")
    ),
    text(
        "update refunds r set reason = '(erased)' from orders o where r.shop_id = :shop_id and r.reason <> '(erased)'"
        " and o.shop_id = r.shop_id and o.order_id = r.order_id and "
        + OF_BOTH.format(customer="o.customer_id", order="o.order_id")
    ),
    text(
        "update outbox w set payload = jsonb_set(w.payload, array['then', k.kind, 'reason'], '\"(erased)\"') from"
        " redemptions r, (values ('cancelled'), ('undo')) k(kind) where w.shop_id = :shop_id and w.kind = 'remove_code'"
        " and w.payload #>> array['then', k.kind, 'reason'] <> '(erased)' and r.shop_id = w.shop_id"
        " and r.id = (w.payload ->> 'redemption_id')::bigint and "
        + OF_BOTH.format(customer="r.customer_id", order="(w.payload #>> '{then,undo,order_id}')::bigint")
    ),
)
# Names of products: that of a person may stand in one made for them. null: what is told later is not kept either.
NAMES_OF_ORDERS = text(
    "update orders o set facts = o.facts || '{\"line_names\": null}' from (select order_id from orders"
    " where shop_id = :shop_id and order_id = any(:orders) and coalesce(facts->'line_names', '[]') <> 'null'"
    " order by order_id for no key update) named where o.shop_id = :shop_id and o.order_id = named.order_id"
)
NAMES_OF_SHOP = text(
    "update orders set facts = facts - 'line_names' where shop_id = :shop_id and order_id in (select order_id"
    " from orders where shop_id = :shop_id and facts->'line_names' <> 'null' limit :limit)"
)
BLANK_LOCKS = text(
    "update reversal_locks set reason = '(erased)' where shop_id = :shop_id and reason <> '(erased)' and "
    + OF_PEOPLE.format(customer="customer_id")
)
ANSWERS = text(
    "select key, response->>'text' as answer from idempotency_keys where shop_id = :shop_id and key > :after"
    " and response->>'text' ~ '\"reason\": ?\"' order by key limit :limit"
)
REWRITE_ANSWER = text(
    "update idempotency_keys set response = jsonb_build_object('text', cast(:answer as text))"
    " where shop_id = :shop_id and key = :key"
)
DROP_TOKENS = text("delete from api_tokens where shop_id = :shop_id")
DROP_DISMISSALS = text("delete from dismissals where shop_id = :shop_id")
DROP_ANSWERS = text("delete from idempotency_keys where shop_id = :shop_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who is meant: the customer as named, and the orders listed. customer_id None: a guest of whom we know only orders."""

    customer_id: int | None
    orders: tuple[int, ...]

    @property
    def words(self) -> str:
        who = "a guest" if self.customer_id is None else f"customer {self.customer_id}"
        return f"{who}, {len(self.orders)} orders named"


# -- acts --------------------------------------------------------------------------------------------


def data_requested(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """`customers/data_request`: kept open until an operator has exported the data (`unwind privacy export`).

    Safe to run twice: one row a request of Shopify's. The delivery's own body, which holds an e-mail, is erased at once.
    """
    check_act(event.topic, shop, payload)
    asked = asked_of(payload, "orders_requested")
    number = optional_id_in(node_in(dict(payload), "data_request"), "id")
    cause = event.cause if number is None else f"data_request:{number}"
    new = _keep(connection, shop, "data_request", "open", asked, cause, event, {})
    connection.execute(ERASE_BODIES, {"ids": [event.id]})
    if new is None:
        return f"data request of {asked.words}: known already"
    return f"data request {new} of {asked.words}: to be exported within {DUE_DAYS} days"


def customer_redacted(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """`customers/redact`: what is personal of the customer is erased; the ledger stays, under his number.

    Safe to run twice: what is erased stays so. A merged customer and his survivor are one person, so one is erased as
    the other. Late facts of his orders are booked as ever. Events not yet processed keep their body until they are; it
    then goes with its age.
    """
    check_act(event.topic, shop, payload)
    asked = asked_of(payload, "orders_to_redact")
    hold(connection, shop.id)
    counts = redact(connection, shop, asked)
    connection.execute(ERASE_BODIES, {"ids": [event.id]})
    _keep(connection, shop, "customer_redact", "done", asked, event.cause, event, counts)
    log.info("customer_redacted", shop_id=shop.id, customer_id=asked.customer_id, **counts)
    return f"redacted {asked.words}: {in_words(counts)}"


def shop_redacted(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """`shop/redact`, two days after an uninstall: tokens, raw bodies, kept answers and typed reasons go; the ledger stays.

    Safe to run twice, and twice at once: under the shop's lock. A shop that is installed is never erased on the word of
    a delivery: installed again since, there is nothing to do; otherwise an operator decides, and the request stays open.
    """
    check_act(event.topic, shop, payload)
    nobody = Asked(customer_id=None, orders=())
    state = connection.execute(SHOP_LOCKED, {"shop_id": shop.id}).scalar_one()
    if state == "installed":
        obtained = connection.execute(OBTAINED, {"shop_id": shop.id}).scalar_one_or_none()
        if obtained is not None and obtained > (event.triggered_at or event.received_at):
            return "installed again since: nothing erased"
        _keep(connection, shop, "shop_redact", "open", nobody, event.cause, event, {"why": "is installed"})
        return f"{shop.domain} is installed, so nothing was erased: remove it (`unwind shop remove`) and it will be"
    counts = redact_shop(connection, shop, event.id)
    whole = is_whole(counts)
    _keep(connection, shop, "shop_redact", "done" if whole else "open", nobody, event.cause, event, counts)
    log.info("shop_redacted", shop_id=shop.id, whole=whole, **counts)
    return f"shop redacted: {in_words(counts)}" + ("" if whole else "; the rest within hours")


def of_unknown_shop(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """A request about a shop that was never ours: done, and what had been parked of it is erased all the same."""
    check_act(event.topic, shop, payload)
    if event.topic == "shop/redact":
        erase_bodies_of_shop(connection, shop.domain, AT_ONCE)
    elif event.topic == "customers/redact":
        asked = asked_of(payload, "orders_to_redact")
        people = [] if asked.customer_id is None else [asked.customer_id]
        _erase_bodies(connection, shop.domain, people, asked.orders)
    connection.execute(ERASE_BODIES, {"ids": [event.id]})
    return f"{event.topic}: nothing is held of this shop"


def asked_of(payload: Mapping[str, Any], orders: str) -> Asked:
    """Who is meant. Raises Unparseable."""
    customer = optional_id_in(node_in(dict(payload), "customer"), "id")
    listed = payload.get(orders) or []
    if not isinstance(listed, list):
        raise Unparseable(orders, "is not a list")
    ids = {optional_id_in({"id": each}, "id") for each in listed} - {None}
    return Asked(customer_id=customer, orders=tuple(sorted(id for id in ids if id is not None)))


def _keep(
    connection: Connection,
    shop: ShopRow,
    kind: str,
    state: str,
    asked: Asked,
    cause: str,
    event: Event,
    detail: Mapping[str, Any],
) -> int | None:
    """The request's row: ids and counts, nothing personal. None when it is known already."""
    row = {
        "shop_id": shop.id,
        "kind": kind,
        "state": state,
        "customer_id": asked.customer_id,
        "orders": dumps([str(id) for id in asked.orders]),
        "cause": cause,
        "detail": dumps(dict(detail)),
        "requested_at": event.received_at,
        "done_at": datetime.now(UTC) if state == "done" else None,
    }
    found: int | None = connection.execute(ADD, row).scalar_one_or_none()
    return found


# -- erasing -----------------------------------------------------------------------------------------


def redact(connection: Connection, shop: ShopRow, asked: Asked) -> dict[str, int]:
    """Erase what is personal of one customer; how many of each."""
    people = family(connection, shop.id, asked.customer_id)
    orders = sorted({*asked.orders, *orders_of(connection, shop.id, people)})
    named = connection.execute(NAMES_OF_ORDERS, {"shop_id": shop.id, "orders": orders}).rowcount
    return {  # after the rows of the orders, as all work locks them first
        "bodies": _erase_bodies(connection, shop.domain, people, orders),
        "reasons": _blank_reasons(connection, shop.id, people=people, orders=orders),
        "answers": _blank_answers(connection, shop.id, [*people, *orders]),
        "identifiers": identifiers.forget(connection, shop.id, people),
        "named_orders": named,
    }


def family(connection: Connection, shop_id: int, customer_id: int | None) -> list[int]:
    """Every id that this person has or had: his survivor's, and those of all who were merged into him (R33)."""
    if customer_id is None:
        return []
    end = survivor(connection, shop_id, customer_id)
    return sorted({customer_id, end, *merged_into(connection, shop_id, end)})


def orders_of(connection: Connection, shop_id: int, people: Sequence[int]) -> list[int]:
    key = {"shop_id": shop_id, "ids": list(people)}
    return list(connection.execute(ORDERS_OF, key).scalars()) if people else []


def _erase_bodies(connection: Connection, domain: str, people: Sequence[int], orders: Iterable[int]) -> int:
    """Raw bodies of these orders, and whatever else names these people or orders by their number."""
    ids = list(orders)
    erased = connection.execute(BODIES_OF_ORDERS, {"domain": domain, "orders": ids}).rowcount
    others = others_naming(connection, domain, [*people, *ids])
    return erased + connection.execute(ERASE_BODIES, {"ids": others}).rowcount


def others_naming(connection: Connection, domain: str, numbers: Sequence[int]) -> list[int]:
    """Processed events that belong to no order and have one of these numbers in their body, whole."""
    needles = {str(number).encode() for number in numbers}
    key = {"domain": domain, "limit": BODIES_A_LOOK, "every": len(needles) > NEEDLES_MAX}
    listed: list[bytes] = [] if key["every"] else sorted(needles)
    found: list[int] = []
    after = 0
    while needles:
        page = sql.fetch(connection, BODIES_WITHOUT_ORDER, **key, needles=listed, after=after)
        found += [row.id for row in page if not needles.isdisjoint(NUMBER.findall(bytes(row.body)))]
        if len(page) < BODIES_A_LOOK:
            break
        after = page[-1].id
    return found


def _blank_reasons(
    connection: Connection,
    shop_id: int,
    *,
    people: Sequence[int] = (),
    orders: Sequence[int] = (),
    everybody: bool = False,
) -> int:
    """What was typed as a reason. The one change that the record lets through, and only while the setting is on."""
    key = {"shop_id": shop_id, "people": list(people), "orders": list(orders), "everybody": everybody}
    if not (everybody or people or orders):
        return 0
    connection.execute(REDACTING, {"on": "on"})
    blanked = connection.execute(BLANK_REASONS, key).rowcount
    connection.execute(REDACTING, {"on": "off"})
    others = (BLANK_MESSAGES, *BLANK_BY_HAND, BLANK_LOCKS)
    return blanked + sum(connection.execute(each, key).rowcount for each in others)


def _blank_answers(connection: Connection, shop_id: int, ids: Sequence[int]) -> int:
    """The reason in answers kept for repeated calls that name these customers or orders; the keys stay, so that no call
    is done twice."""
    named, after, blanked = {str(id) for id in ids}, "", 0
    while named:
        page = sql.fetch(connection, ANSWERS, shop_id=shop_id, after=after, limit=BODIES_A_LOOK)
        for row in page:
            if not named.isdisjoint(QUOTED_NUMBER.findall(row.answer)):
                blanked += _blank_answer(connection, shop_id, row.key, json.loads(row.answer))
        if len(page) < BODIES_A_LOOK:
            break
        after = page[-1].key
    return blanked


def _blank_answer(connection: Connection, shop_id: int, key: str, answer: Any) -> bool:
    without = _without_reasons(answer)
    if without != answer:
        values = {"shop_id": shop_id, "key": key, "answer": dumps(without)}
        connection.execute(REWRITE_ANSWER, values)
    return bool(without != answer)


def _without_reasons(part: Any) -> Any:
    """A JSON value, every text that is named `reason` in it erased."""
    if isinstance(part, list):
        return [_without_reasons(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        name: ERASED if name == "reason" and isinstance(value, str) else _without_reasons(value)
        for name, value in part.items()
    }


def redact_shop(connection: Connection, shop: ShopRow, event_id: int) -> dict[str, int]:
    """Erase what is personal of a whole shop, and every key to it; how many of each. The shop's row is locked."""
    key, now = {"shop_id": shop.id}, datetime.now(UTC)
    forget(connection, shop.id)
    connection.execute(DISCARD_PENDING, {"domain": shop.domain, "id": event_id, "now": now})
    connection.execute(ERASE_BODIES, {"ids": [event_id]})
    connection.execute(CLOSE_ALL, {**key, "now": now})
    return {
        "bodies": erase_bodies_of_shop(connection, shop.domain, AT_ONCE),
        "reasons": _blank_reasons(connection, shop.id, everybody=True),
        "answers": connection.execute(DROP_ANSWERS, key).rowcount,
        "api_tokens": connection.execute(DROP_TOKENS, key).rowcount,
        "logins": admin_logins.end_all(connection, shop.id),
        "dismissals": connection.execute(DROP_DISMISSALS, key).rowcount,
        "identifiers": identifiers.forget(connection, shop.id, None),
        "named_orders": connection.execute(NAMES_OF_SHOP, {**key, "limit": AT_ONCE}).rowcount,
    }


def is_whole(counts: Mapping[str, int]) -> bool:
    """Whether a shop's redaction has nothing left that was too much for one transaction."""
    return max(counts["bodies"], counts["named_orders"]) < AT_ONCE


def erase_bodies_of_shop(connection: Connection, domain: str, limit: int) -> int:
    """Up to `limit` raw bodies of a shop; how many there were."""
    return connection.execute(BODIES_OF_SHOP, {"domain": domain, "limit": limit}).rowcount


def in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


# -- requests ----------------------------------------------------------------------------------------


def listing(connection: Connection, domain: str | None, *, every: bool = False) -> list[dict[str, Any]]:
    """The open requests of a shop (None: of all), oldest first; with `every` those that are done, too."""
    now = datetime.now(UTC)
    rows = connection.execute(OPEN_OR_ALL, {"domain": domain, "every": every}).all()
    return [
        {
            "id": str(row.id),
            "shop": row.domain,
            "kind": row.kind,
            "state": row.state,
            "customer_id": None if row.customer_id is None else str(row.customer_id),
            "orders": row.orders,
            "requested_at": row.requested_at.astimezone(UTC).isoformat(),
            "done_at": row.done_at and row.done_at.astimezone(UTC).isoformat(),
            "overdue": row.state == "open" and (now - row.requested_at).days >= LATE_DAYS,
            "detail": row.detail,
        }
        for row in rows
    ]


def request(connection: Connection, shop_id: int, id: int) -> Asked:
    """Whose data a data request asks for. Raises NotFound."""
    row = connection.execute(REQUEST, {"shop_id": shop_id, "id": id}).one_or_none()
    if row is None or row.kind != "data_request":
        raise NotFound("data request", id)
    return Asked(customer_id=row.customer_id, orders=tuple(int(order) for order in row.orders))


def close(connection: Connection, shop_id: int, id: int, **detail: int) -> bool:
    """The request is answered. Safe to run twice; False when it was closed before."""
    key = {"shop_id": shop_id, "id": id, "detail": dumps(detail), "now": datetime.now(UTC)}
    return connection.execute(CLOSE, key).rowcount == 1
