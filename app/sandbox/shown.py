"""How the Admin API shows things: ids, times, money, pages. What it gives back are dictionaries for graphql-core."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from graphql import GraphQLError

from models.rules.money import exponent

Node = dict[str, Any]
UNPAGED = "unpaged"  # set in the context of a bulk operation: its connections have no pages


def gid(kind: str, id: int) -> str:
    return f"gid://shopify/{kind}/{id}"


def id_of(gid: str, *kinds: str) -> int:
    """The number of a global id. Raises what Shopify answers to an id of another kind."""
    head, _, tail = str(gid).rpartition("/")
    if head not in [f"gid://shopify/{kind}" for kind in kinds] or not tail.isdecimal():
        raise GraphQLError(f"Invalid id: {gid}", extensions={"code": "RESOURCE_NOT_FOUND"})
    return int(tail)


def time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_or_none(at: datetime | None) -> str | None:
    return None if at is None else time(at)


def moment(text: str) -> datetime:
    """A DateTime that was sent; to the second, as Shopify keeps it."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        raise GraphQLError(f"Invalid DateTime: {text}", extensions={"code": "INVALID_VARIABLE"}) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).replace(microsecond=0)


def money(minor: int, currency: str) -> Node:
    """MoneyV2. Its amount has no needless zeros but keeps one decimal place: "5.0", "12.34"."""
    amount = Decimal(minor).scaleb(-exponent(currency)).normalize()
    text = f"{amount:f}"
    return {"amount": text if "." in text else f"{text}.0", "currencyCode": currency}


def cursor_of(key: object) -> str:
    return base64.b64encode(json.dumps(key).encode()).decode()


def cursor_value(cursor: str) -> tuple[str, str]:
    """What a cursor says of the place after which to go on. Raises what Shopify answers to one that it did not make."""
    try:
        value, id = json.loads(base64.b64decode(cursor, validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise GraphQLError("Invalid cursor for current pagination sort.") from None
    return str(value), str(id)


def connection(items: Sequence[Node], *, key: Callable[[Node], object] | None = None) -> Callable[..., Node]:
    """A resolver of a page of `items`, which are in their order. key: what tells one from another; their place."""

    def resolve(info: Any, **asked: Any) -> Node:
        placed = list(enumerate(items))
        if asked.get("reverse"):
            placed.reverse()
        cursors = [cursor_of(place if key is None else key(node)) for place, node in placed]
        start, end = _window(cursors, asked, unpaged=bool(info.context.get(UNPAGED)))
        shown = [node for _, node in placed[start:end]]
        return {
            "nodes": shown,
            "edges": [
                {"node": node, "cursor": cursor}
                for node, cursor in zip(shown, cursors[start:end], strict=True)
            ],
            "pageInfo": {
                "hasNextPage": end < len(placed),
                "hasPreviousPage": start > 0,
                "startCursor": cursors[start] if shown else None,
                "endCursor": cursors[end - 1] if shown else None,
            },
        }

    return resolve


def _window(cursors: Sequence[str], asked: Mapping[str, Any], *, unpaged: bool) -> tuple[int, int]:
    start, end = 0, len(cursors)
    if unpaged:
        return start, end
    if asked.get("after"):
        start = _place(cursors, asked["after"]) + 1
    if asked.get("before"):
        end = _place(cursors, asked["before"])
    first, last = asked.get("first"), asked.get("last")
    if first is None and last is None:
        raise GraphQLError("you must provide one of first or last", extensions={"code": "BAD_REQUEST"})
    if first is not None:
        return start, max(start, min(end, start + _at_most_250(first)))
    return max(start, end - _at_most_250(last or 0)), end


def _at_most_250(asked: int) -> int:
    if not 0 < asked <= 250:
        raise GraphQLError("first or last must be between 1 and 250", extensions={"code": "BAD_REQUEST"})
    return asked


def _place(cursors: Sequence[str], cursor: str) -> int:
    if cursor not in cursors:
        raise GraphQLError("Invalid cursor for current pagination sort.")
    return cursors.index(cursor)
