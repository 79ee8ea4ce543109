"""Webhook subscriptions that this server makes itself, at shops whose app has no shopify.app.toml to make them.

Compared by topic and address, and set right: what is missing is made, what is wrong is changed, what is there twice
goes. Subscriptions with another address are somebody else's and are never touched. What Shopify cannot be asked for
here are the three compliance topics: those are set in the app's own settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, text

from models.errors import InvalidSetting, NeedsMerchant, Never, ShopifyRefused
from models.settings import Settings
from tasks.gateway.client import Gateway, accepted
from tasks.steps import installations, outbox
from tasks.steps.installations import CHECK, Held
from tasks.steps.load import ShopRow
from tasks.steps.outbox import Leased

ORDERS = ("read_orders", "read_marketplace_orders")
DISPUTES = ("read_shopify_payments_disputes",)

# topic -> the scopes of which one is needed to be told of it (the Admin schema says so)
TOPICS: Mapping[str, Sequence[str]] = {
    "app/scopes_update": (),
    "app/uninstalled": (),
    "customers/merge": ("read_customer_merge",),
    "disputes/create": DISPUTES,
    "disputes/update": DISPUTES,
    "order_transactions/create": ORDERS,
    "orders/cancelled": ORDERS,
    "orders/create": ORDERS,
    "orders/edited": ORDERS,
    "orders/paid": ORDERS,
    "orders/updated": ORDERS,
    "refunds/create": ORDERS,
}
PATH = "/webhooks"
WHOLE = {
    "format": "JSON",
    "filter": "",
    "includeFields": [],
    "metafieldNamespaces": [],
}  # every event, all of it
PAGES_MAX = 50  # of 100 subscriptions each; a shop has a few dozen
ERROR_MAX_CHARACTERS = 1_000
CHECK_AFTER_HOURS = 20  # a daily job that came a little early still finds what the last one checked

CHECKED = text(
    "update installations set subscriptions_checked_at = now(), subscriptions_error = :error where shop_id = :shop_id"
)
WRONG = text("update installations set subscriptions_error = :error where shop_id = :shop_id")
ASK_DAILY = text(
    "insert into outbox (shop_id, kind, key, payload)"
    " select i.shop_id, :kind, :kind || ':' || current_date, '{}' from installations i join shops s on s.id = i.shop_id"
    " where s.state = 'installed' and i.access_token is not null and not coalesce(i.reason, '') = any(:dead)"
    " and coalesce(i.subscriptions_checked_at, '-infinity') < now() - :hours * interval '1 hour'"
    " and not exists (select from outbox o where o.shop_id = i.shop_id and o.kind = :kind"
    "   and o.state in ('pending', 'leased'))"
    " on conflict (shop_id, key) do nothing returning 1"
)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One that Shopify lists. `topic` as we say it. `is_whole`: it brings every event, and all of it, as JSON."""

    id: str
    topic: str
    uri: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: topics to subscribe to, subscriptions to set right, others of ours that are too many."""

    missing: tuple[str, ...] = ()
    wrong: tuple[Subscription, ...] = ()
    extra: tuple[Subscription, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.wrong or self.extra)

    @property
    def topics(self) -> list[str]:
        return sorted({*self.missing, *(each.topic for each in (*self.wrong, *self.extra))})


@dataclass(slots=True)
class Repaired:
    """What was done, counted; `refused`: what Shopify said to what could not be."""

    made: int = 0
    changed: int = 0
    deleted: int = 0
    refused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.made} made, {self.changed} changed, {self.deleted} deleted"


def check(engine: Engine, settings: Settings, gateway: Gateway, leased: Leased) -> str:
    """Ask Shopify for the scopes it granted, and set the shop's subscriptions right where they are ours to make.

    Safe to run twice, and twice at once: every run starts from what Shopify lists, and what is right is left alone;
    of two that make the same subscription Shopify refuses one, which reads the list again and finds it there.
    """
    try:
        return _check(engine, settings, gateway, leased)
    except NeedsMerchant:
        raise
    except Never as error:
        with engine.begin() as connection:
            connection.execute(WRONG, {"shop_id": leased.shop.id, "error": str(error)[:ERROR_MAX_CHARACTERS]})
        raise


def _check(engine: Engine, settings: Settings, gateway: Gateway, leased: Leased) -> str:
    shop = leased.shop
    scopes = granted_scopes(gateway, shop)
    with engine.begin() as connection:
        missing = installations.granted(connection, settings, shop.id, scopes)
        held = installations.read(connection, shop.id)
    said, error = "the app's own subscriptions serve it", None
    if held is not None and made_here(settings, held):
        repaired = repair(gateway, shop, address(settings), wanted(scopes))
        said = str(repaired)
        error = "; ".join(repaired.refused)[:ERROR_MAX_CHARACTERS] or None
    if missing:
        said += f"; scopes missing: {', '.join(missing)}"
    with engine.begin() as connection:
        connection.execute(CHECKED, {"shop_id": shop.id, "error": error})
        return outbox.finish(connection, leased, outcome=said if error is None else f"{said}; {error}")


def ask_daily(engine: Engine) -> int:
    """Have every connected shop checked once a day. Safe to run twice, and twice at once: one row a shop and day, and none
    while an earlier one waits."""
    values = {"kind": CHECK, "dead": list(installations.TOKEN_DEAD), "hours": CHECK_AFTER_HOURS}
    with engine.begin() as connection:
        return len(connection.execute(ASK_DAILY, values).all())


def made_here(settings: Settings, held: Held) -> bool:
    """Whether this server subscribes at the shop. A custom app has a token that does not expire, and no toml."""
    if settings.webhook_registration == "auto":
        return held.access_expires_at is None
    return settings.webhook_registration == "shop"


def address(settings: Settings) -> str:
    """Where the webhooks go. Raises InvalidSetting."""
    if not settings.shopify_app_url:
        reason = "is empty, so no webhook can be asked for; it is the public https address of this server"
        raise InvalidSetting("SHOPIFY_APP_URL", reason)
    return settings.shopify_app_url + PATH


def wanted(scopes: Iterable[str]) -> list[str]:
    """The topics that the shop's scopes allow."""
    have = set(scopes)
    have |= {"read_" + scope.removeprefix("write_") for scope in have if scope.startswith("write_")}
    return [topic for topic, needed in TOPICS.items() if not needed or have & set(needed)]


def granted_scopes(gateway: Gateway, shop: ShopRow) -> list[str]:
    data = gateway.run(shop, "current_app_installation", {}, background=True)
    return sorted(scope["handle"] for scope in data["currentAppInstallation"]["accessScopes"])


def repair(gateway: Gateway, shop: ShopRow, uri: str, topics: Sequence[str]) -> Repaired:
    """Twice at most: what a change did not set right is deleted and made anew. Read back after either; what was
    refused and is there all the same (another made it) is no error."""
    repaired = Repaired()
    for anew in (False, True):
        todo = plan(list(listed(gateway, shop)), uri, topics)
        repaired.refused.clear()
        if not todo:
            return repaired
        _carry_out(gateway, shop, uri, todo, repaired, anew=anew)
    left = plan(list(listed(gateway, shop)), uri, topics)
    if not left:
        repaired.refused.clear()
    elif not repaired.refused:
        repaired.refused.append(f"not as asked for: {', '.join(left.topics)}")
    return repaired


def plan(found: Sequence[Subscription], uri: str, topics: Sequence[str]) -> Plan:
    """Pure. Of several for one topic the oldest that is whole stays, else the oldest."""
    ours: dict[str, list[Subscription]] = {topic: [] for topic in topics}
    for each in found:
        if each.uri.rstrip("/") == uri.rstrip("/") and each.topic in ours:
            ours[each.topic].append(each)
    kept = {
        topic: min(some, key=lambda one: (not one.is_whole, one.uri != uri, len(one.id), one.id))
        for topic, some in ours.items()
        if some
    }
    return Plan(
        missing=tuple(topic for topic in topics if topic not in kept),
        wrong=tuple(each for each in kept.values() if not each.is_whole or each.uri != uri),
        extra=tuple(each for some in ours.values() for each in some if each is not kept[each.topic]),
    )


def listed(gateway: Gateway, shop: ShopRow) -> Iterator[Subscription]:
    """All that the app has at the shop through the Admin API."""
    after: str | None = None
    for _ in range(PAGES_MAX):
        page = gateway.run(shop, "webhook_subscriptions", {"after": after}, background=True)[
            "webhookSubscriptions"
        ]
        yield from map(_subscription, page["nodes"])
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return


def _subscription(node: Mapping[str, Any]) -> Subscription:
    narrowed = (node["filter"], node["includeFields"], node["metafieldNamespaces"])
    return Subscription(
        id=node["id"],
        topic=topic_of(node["topic"]),
        uri=node["uri"],
        is_whole=node["format"] == "JSON" and not any(narrowed),
    )


def _carry_out(
    gateway: Gateway, shop: ShopRow, uri: str, todo: Plan, repaired: Repaired, *, anew: bool
) -> None:
    """Each thing to do; what Shopify refuses is noted, and the others are done."""

    def do(name: str, topic: str, variables: Mapping[str, Any]) -> bool:
        refused = _refusal(gateway, shop, name, variables)
        if refused is not None:
            repaired.refused.append(f"{topic}: {refused}")
        return refused is None

    for each in (*todo.extra, *(todo.wrong if anew else ())):
        repaired.deleted += do("delete", each.topic, {"id": each.id})
    for each in () if anew else todo.wrong:
        whole = {**WHOLE, "uri": uri}
        repaired.changed += do("update", each.topic, {"id": each.id, "webhookSubscription": whole})
    for topic in (*todo.missing, *(each.topic for each in todo.wrong if anew)):
        new = {"topic": enum_of(topic), "webhookSubscription": {"uri": uri, "format": "JSON"}}
        repaired.made += do("create", topic, new)


def _refusal(gateway: Gateway, shop: ShopRow, verb: str, variables: Mapping[str, Any]) -> str | None:
    """Why Shopify did not do it, None when it did. Raises what is Later, and AccessDenied."""
    try:
        data = gateway.run(shop, f"webhook_subscription_{verb}", variables, background=True)
        accepted(data, f"webhookSubscription{verb.capitalize()}")
    except ShopifyRefused as error:
        return "; ".join(each.message for each in error.errors)
    return None


def enum_of(topic: str) -> str:
    """`orders/create` -> `ORDERS_CREATE`."""
    return topic.replace("/", "_").upper()


ENUMS = {enum_of(topic): topic for topic in TOPICS}


def topic_of(enum: str) -> str:
    """`ORDERS_CREATE` -> `orders/create`; a topic that is not ours stays as Shopify says it."""
    return ENUMS.get(enum, enum)
