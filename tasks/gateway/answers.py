"""What an answer of the Admin API means: bytes and a status in, data or one of our errors out. Opens nothing.

Three layers, each of which can fail while the others look fine: the HTTP status, the top-level `errors` (also under
status 200, also beside partial data), and the `userErrors` of a mutation's payload.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from models.errors import (
    AccessDenied,
    OutcomeUnknown,
    ShopifyRefused,
    ShopifyThrottled,
    ShopifyUnreachable,
    Unparseable,
    UnwindError,
    UserError,
)
from tasks.gateway.counts import THROTTLED
from tasks.steps.parse.body import read_object

MESSAGE_MAX = 200  # characters of a sentence of Shopify's; longer ones quote whole documents
USUAL_WAIT_SECONDS = 2.0  # after a throttle that says nothing of its cost
LONGEST_WAIT_SECONDS = 120.0
JITTER_SECONDS = 0.5  # so that workers that were refused together do not come back together
CLOSED = {  # statuses that no repetition changes: the shop's own state
    402: "the shop is frozen: its bill with Shopify is not paid",
    403: "the shop or this app is barred",
    404: "there is no such shop, or no such version of the API",
    423: "the shop is locked",
}
PASSING = frozenset({408, 430})  # it took too long to ask; it looked like an attack
DENIED = frozenset({"ACCESS_DENIED", "FORBIDDEN", "UNAUTHORIZED", "SHOP_INACTIVE"})
TROUBLE = frozenset({"INTERNAL_SERVER_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE"})


@dataclass(frozen=True, slots=True)
class Cost:
    """Points of one call, and the shop's bucket after it. `actual` is None when the call was not executed."""

    requested: float
    actual: float | None
    available: float
    maximum: float
    rate: float  # points a second that flow back

    @property
    def is_possible(self) -> bool:
        figures = (self.requested, self.actual or 0.0, self.available, self.maximum, self.rate)
        return all(map(math.isfinite, figures)) and self.requested >= 0 and self.maximum > 0 and self.rate > 0

    @property
    def wait_seconds(self) -> float:
        """Until the bucket holds what the call asks for."""
        return max(0.0, (min(self.requested, self.maximum) - self.available) / self.rate)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came."""

    status: int
    body: bytes = field(repr=False)  # the token address's holds tokens
    retry_after: str | None = None
    version: str | None = None  # of the API that answered: another than asked for, once that one has ended


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer understood: `data`, or the `error` to raise. `result` is its word in logs and metrics."""

    result: str
    data: dict[str, Any] | None = None
    error: UnwindError | None = None
    cost: Cost | None = None


def read(reply: Reply, operation: str, *, is_mutation: bool) -> Reading:
    """Understand an answer, whatever it holds: never raises. Status 401 is the caller's to see first."""
    if reply.status == 429:
        return _too_many(reply)
    if reply.status in CLOSED:
        return Reading("closed", error=AccessDenied(f"{operation}: {CLOSED[reply.status]} ({reply.status})"))
    if reply.status >= 500 or reply.status in PASSING:
        return _no_word(f"{operation}: status {reply.status}", is_mutation)
    try:
        body = read_object(reply.body)
    except Unparseable as error:
        if reply.status != 200:
            return Reading("refused", error=_refused(operation, f"HTTP_{reply.status}", "not understood"))
        return _no_word(f"{operation}: an answer that is not JSON ({error.reason})", is_mutation)
    return _read_body(reply.status, body, operation, is_mutation)


def accepted(data: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The payload of the mutation `field`. Raises ShopifyRefused when it holds user errors: nothing was done;
    OutcomeUnknown without a payload, which says nothing at all."""
    payload = data.get(field)
    if not isinstance(payload, dict):
        raise OutcomeUnknown(f"{field}: an answer without its payload")
    if errors := user_errors(payload):
        raise ShopifyRefused(field, errors)
    return payload


def user_errors(payload: Mapping[str, Any]) -> list[UserError]:
    """`userErrors`, or the older lists named after what they speak of (`orderCancelUserErrors`, ...)."""
    found: list[UserError] = []
    for name, errors in payload.items():
        if name.lower().endswith("usererrors") and isinstance(errors, list):
            found += [
                _user_error(error) if isinstance(error, dict) else _top_error(error) for error in errors
            ]
    return found


def _user_error(error: Mapping[str, Any]) -> UserError:
    field = error.get("field")
    path = tuple(str(part) for part in field) if isinstance(field, list) else ()
    code = error.get("code")
    return UserError(None if code is None else str(code), path, _sentence(error))


def _too_many(reply: Reply) -> Reading:
    """Status 429: wait as long as it says, else as its cost figures say."""
    try:
        cost = read_cost(read_object(reply.body))
    except Unparseable:
        cost = None
    wait = _computed_wait(cost) if reply.retry_after is None else _asked_wait(reply.retry_after)
    return Reading(THROTTLED, error=ShopifyThrottled(wait), cost=cost)


def _read_body(status: int, body: dict[str, Any], operation: str, is_mutation: bool) -> Reading:
    cost = read_cost(body)
    data = body.get("data") if isinstance(body.get("data"), dict) else None
    if errors := _top_errors(body):
        return replace(_of_errors(errors, data, cost, operation, is_mutation), cost=cost)
    if status != 200:
        return Reading("refused", error=_refused(operation, f"HTTP_{status}", "not done"), cost=cost)
    if data is None:
        return replace(_no_word(f"{operation}: an answer without data", is_mutation), cost=cost)
    refused = any(isinstance(payload, dict) and user_errors(payload) for payload in data.values())
    return Reading("user_errors" if refused else "ok", data=data, cost=cost)


def _top_errors(body: Mapping[str, Any]) -> list[UserError]:
    """`errors` in all its shapes: a list of objects, a list of sentences, one sentence, an object of sentences."""
    errors = body.get("errors")
    if not errors:
        return []
    if isinstance(errors, list):
        return [_top_error(error) for error in errors]
    return [_top_error(errors)]


def _top_error(error: Any) -> UserError:
    if not isinstance(error, dict) or "message" not in error:
        return UserError(None, (), str(error)[:MESSAGE_MAX])
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    path = error.get("path")
    return UserError(
        None if code is None else str(code),
        tuple(str(part) for part in path) if isinstance(path, list) else (),
        _sentence(error),
    )


def _of_errors(
    errors: Sequence[UserError],
    data: dict[str, Any] | None,
    cost: Cost | None,
    operation: str,
    is_mutation: bool,
) -> Reading:
    codes = {error.code for error in errors}
    if "THROTTLED" in codes:
        return Reading(THROTTLED, error=ShopifyThrottled(_computed_wait(cost)))
    if is_mutation and data is not None and any(payload is not None for payload in data.values()):
        return _no_word(f"{operation}: done at least in part, answered with errors", is_mutation)
    if codes & DENIED:
        said = "; ".join(error.message for error in errors)
        return Reading("denied", error=AccessDenied(f"{operation}: {said}"))
    if codes & TROUBLE:
        return _no_word(f"{operation}: trouble at Shopify", is_mutation)
    return Reading("refused", error=ShopifyRefused(operation, errors))


def read_cost(body: Mapping[str, Any]) -> Cost | None:
    """The cost figures, None when any is missing or not a number."""
    extensions = body.get("extensions")
    cost = extensions.get("cost") if isinstance(extensions, dict) else None
    status = cost.get("throttleStatus") if isinstance(cost, dict) else None
    if not isinstance(cost, dict) or not isinstance(status, dict):
        return None
    actual = cost.get("actualQueryCost")
    try:
        found = Cost(
            requested=float(cost["requestedQueryCost"]),
            actual=None if actual is None else float(actual),
            available=float(status["currentlyAvailable"]),
            maximum=float(status["maximumAvailable"]),
            rate=float(status["restoreRate"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.is_possible else None


def _computed_wait(cost: Cost | None) -> float:
    wait = USUAL_WAIT_SECONDS if cost is None else cost.wait_seconds
    return min(wait, LONGEST_WAIT_SECONDS) + jitter()


def _asked_wait(retry_after: str) -> float:
    """`Retry-After` in its two forms, seconds or a date."""
    try:
        wait = float(retry_after)
    except ValueError:
        wait = _until(retry_after)
    wait = wait if math.isfinite(wait) else USUAL_WAIT_SECONDS
    return min(max(wait, 0.0), LONGEST_WAIT_SECONDS) + jitter()


def _until(date: str) -> float:
    try:
        return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return USUAL_WAIT_SECONDS


def jitter() -> float:
    return random.uniform(0, JITTER_SECONDS)  # noqa: S311 - spreads callers, protects nothing


def _no_word(why: str, is_mutation: bool) -> Reading:
    """No answer, or none that says what became of the call."""
    if is_mutation:
        return Reading("unknown", error=OutcomeUnknown(why))
    return Reading("unreachable", error=ShopifyUnreachable(why))


def _refused(operation: str, code: str, message: str) -> ShopifyRefused:
    return ShopifyRefused(operation, [UserError(code, (), message)])


def _sentence(error: Mapping[str, Any]) -> str:
    return str(error.get("message") or "")[:MESSAGE_MAX]
