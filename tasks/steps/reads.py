"""Orders read again at Shopify: fetched whole, told in the webhooks' words, kept in the inbox like every other fact.

fetch (network, no transaction) -> keep (an inbox row of topic `orders/read`) -> the drain books it. A reading goes
through drain, replay and verify as a webhook does, and the same order at the same moment is kept once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from models.errors import Later
from models.rules.order import OrderFacts
from models.rules.reads import reads_wanted
from tasks.gateway.client import Gateway
from tasks.steps.load import ShopRow, load_orders, open_world
from tasks.steps.outbox import Leased, finish
from tasks.steps.parse import READ_TOPIC
from tasks.steps.parse.graphql import body_of, gid_of

Node = dict[str, Any]

TRIES = 3  # of an order that changes while its pages are read
OF_ORDER = {"lines": "lineItems", "discounts": "discountApplications"}
OF_REFUND = {
    "lines": "refundLineItems",
    "shipping": "refundShippingLines",
    "adjustments": "orderAdjustments",
    "transactions": "transactions",
}
NOT_GIVEN = "Shopify does not give it: deleted, or older than the app may read (S10)"

KEEP = text(
    "insert into inbox (shop_domain, topic, webhook_id, body, order_id, received_at, not_before)"
    " values (:domain, :topic, :webhook_id, :body, :order_id, :now, :now)"
    " on conflict (shop_domain, webhook_id) do nothing returning id"
)


class OrderMoves(Later):
    """The order was changed while its pages were read, several times over."""

    code = "order_moves"


@dataclass(frozen=True, slots=True)
class Body:
    """An order as it was read, in the shape that is kept."""

    order_id: int
    body: bytes

    @property
    def webhook_id(self) -> str:
        """The same content is the same reading."""
        return f"read:{self.order_id}:{hashlib.sha256(self.body).hexdigest()}"


def fetch(gateway: Gateway, shop: ShopRow, order_id: int, *, background: bool = True) -> Body | None:
    """One order, with every connection read to its end. None: Shopify does not give it (S10).

    Raises what the gateway raises, and OrderMoves (Later) when the pages of a long order never fit together.
    """
    for _ in range(TRIES):
        data = gateway.run(shop, "order", {"id": gid_of("Order", order_id)}, background=background)
        order = data["order"]
        if order is None:
            return None
        if _complete(gateway, shop, order, order_id, background):
            return Body(order_id, body_of(order))
    raise OrderMoves(f"order {order_id} was changed while it was read, {TRIES} times")


def _complete(gateway: Gateway, shop: ShopRow, order: Node, order_id: int, background: bool) -> bool:
    """Read the order's connections to their ends. False when the order changed meanwhile, or is gone."""
    while unread(order, OF_ORDER):
        asked = {"id": gid_of("Order", order_id), **cursors(order, OF_ORDER)}
        rest = gateway.run(shop, "order_rest", asked, background=background)["order"]
        if rest is None or rest["updatedAt"] != order["updatedAt"]:
            return False
        _extend(order, rest, OF_ORDER)
    for refund in order["refunds"]:
        while unread(refund, OF_REFUND):
            asked = {"id": refund["id"], **cursors(refund, OF_REFUND)}
            rest = gateway.run(shop, "refund_rest", asked, background=background)["refund"]
            if rest is None:
                return False
            _extend(refund, rest, OF_REFUND)
    return True


def unread(holder: Node, connections: Mapping[str, str]) -> bool:
    """Whether some connection goes on beyond what was read."""
    return any(holder[name]["pageInfo"]["hasNextPage"] for name in connections.values())


def cursors(holder: Node, connections: Mapping[str, str]) -> dict[str, str | None]:
    """Where each connection goes on; one that ended asks from its end, and gets nothing."""
    return {variable: holder[name]["pageInfo"]["endCursor"] for variable, name in connections.items()}


def _extend(holder: Node, rest: Node, connections: Mapping[str, str]) -> None:
    for name in connections.values():
        if not rest[name]["nodes"]:  # keeps the cursor that stands at its end
            holder[name]["pageInfo"]["hasNextPage"] = False
            continue
        holder[name]["nodes"] += rest[name]["nodes"]
        holder[name]["pageInfo"] = rest[name]["pageInfo"]


def keep(connection: Connection, shop: ShopRow, bodies: Sequence[Body], now: datetime) -> list[int]:
    """Put readings into the inbox; the ids of the rows that are new.

    Safe to run twice, and twice at once: a reading's id is its content, and the inbox keeps an id once.
    """
    key = {"domain": shop.domain, "topic": READ_TOPIC, "now": now}
    found = (
        connection.execute(
            KEEP, {**key, "webhook_id": each.webhook_id, "body": each.body, "order_id": each.order_id}
        ).scalar_one_or_none()
        for each in bodies
    )
    return [id for id in found if id is not None]


def read_order(engine: Engine, gateway: Gateway, leased: Leased) -> str:
    """Do an outbox row of kind `read_order`: fetch, keep, finish. What came of it, in words.

    Safe to run twice: nothing is changed at Shopify, and the same reading is kept once. An order that Shopify does not
    give ends here, in the open, and is not asked for again.
    """
    order_id = int(leased.payload["order_id"])
    if not _still_wanted(engine, leased, order_id):
        with engine.begin() as connection:
            return finish(
                connection, leased, outcome=f"order {order_id}: no longer wanted", state="cancelled"
            )
    read = fetch(gateway, leased.shop, order_id, background=False)
    with engine.begin() as connection:
        if read is None:
            return finish(connection, leased, outcome=f"order {order_id}: {NOT_GIVEN}")
        new = keep(connection, leased.shop, [read], datetime.now(UTC))
        said = "read" if new else "read, nothing new"
        return finish(connection, leased, outcome=f"order {order_id}: {said}")


def _still_wanted(engine: Engine, leased: Leased, order_id: int) -> bool:
    """A webhook may have told meanwhile what the reading was wanted for. Who asks under another key is not asked why."""
    if not leased.key.startswith(f"read_order:{order_id}:"):
        return True
    with engine.connect() as connection:
        known = known_orders(connection, leased.shop, [order_id]).get(order_id)
    return known is not None and leased.key in {key for key, _ in reads_wanted(known)}


def known_orders(connection: Connection, shop: ShopRow, ids: Iterable[int]) -> dict[int, OrderFacts]:
    """What is on record of these orders, without a lock; what is not there is left out."""
    world = open_world(connection, shop, datetime.now(UTC), read_only=True)
    load_orders(world, ids)
    return world.orders
