"""How often a token may call. It guards the database from a runaway script; webhooks are never limited."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from flask import Flask, Response, g, request
from flask_limiter import Limiter

from tasks.runtime import make_broker_client
from tasks.steps.tokens import Caller

CALLS_PER_MINUTE = 1200  # twenty a second: above any honest integration, far below what the receiver can take
WINDOW_SECONDS = 60
POLICY = "calls"  # its name in the standard's headers
ASKED_TO_WAIT = frozenset({429, 503})  # only these say when to come back
STORAGE_TIMEOUT_SECONDS = 1


def admission(app: Flask, redis_url: str | None, *, below: str, calls_per_minute: int) -> Callable[[], None]:
    """A function that counts this request, and raises 429 when there were too many. Only paths below `below` count."""

    def tidy(response: Response) -> Response:
        if request.path.startswith(below):
            if response.status_code not in ASKED_TO_WAIT:
                response.headers.pop("Retry-After", None)
            elif "come_back" in g:
                response.headers["Retry-After"] = g.come_back
            say_standard(response)
        return response

    app.after_request(tidy)  # before the limiter's own: what is registered first runs last
    limiter = limiter_of(app, redis_url)
    limiter.request_filter(lambda: not request.path.startswith(below))

    def admit() -> None:
        """Called after the caller is known."""

    counted: Callable[[], None] = limiter.shared_limit(f"{calls_per_minute}/minute", scope="api")(admit)
    return counted


def say_standard(response: Response) -> None:
    """The limiter's `X-RateLimit-*` once more in the words of the IETF's draft: `RateLimit-Policy` and `RateLimit`."""
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    quota, left, reset = (response.headers.get(name) for name in names)
    if quota is None or left is None or reset is None:
        return
    seconds = min(WINDOW_SECONDS, max(0, int(reset) - int(time.time())))
    response.headers["RateLimit-Policy"] = f'"{POLICY}";q={quota};w={WINDOW_SECONDS}'
    response.headers["RateLimit"] = f'"{POLICY}";r={left};t={seconds}'


def limiter_of(app: Flask, redis_url: str | None) -> Limiter:
    """Counts in Redis, so that several receivers count together; in memory without it, or while it is away."""
    counted = redis_url is not None
    return Limiter(
        who,
        app=app,
        storage_uri="redis://" if counted else "memory://",
        storage_options=cast(dict[str, str | int], storage(redis_url)) if redis_url else {},
        in_memory_fallback_enabled=counted,
        swallow_errors=True,
        headers_enabled=True,
        key_prefix="unwind:api",
        strategy="fixed-window",
    )


def storage(redis_url: str) -> dict[str, object]:
    """Our own client's connections: it knows every form of the address."""
    seconds = STORAGE_TIMEOUT_SECONDS
    client = make_broker_client(redis_url, connect_seconds=seconds, answer_seconds=seconds)
    return {"connection_pool": client.connection_pool}


def who() -> str:
    """The token's number; the shop of a page in its admin; of those who are nobody, the address."""
    caller: Caller | None = g.get("caller")
    if caller is None:
        return f"address:{request.remote_addr or 'unknown'}"
    return f"shop:{caller.shop_id}" if caller.token_id is None else f"token:{caller.token_id}"
