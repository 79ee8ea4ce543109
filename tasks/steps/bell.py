"""The doorbell: a message that says "this shop has events", rung at most once until somebody answers it.

The promise, without any lock: a row committed before `try_ring` is seen by whoever answers. If the key was there, the
answerer has not yet claimed (it deletes the key *before* it claims), so its claim starts after the row's commit. If the
key is an orphan of a lost message, it fades after `LIFE_MILLISECONDS` and the sweep rings for the rows left behind.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis

LIFE_MILLISECONDS = 2000  # longer coalesces more, and leaves a row waiting longer after a lost message


def key_of(shop_domain: str) -> str:
    return f"unwind:bell:{shop_domain}"


def try_ring(broker: Redis, shop_domains: Sequence[str]) -> list[str]:
    """Those of the shops whose bell was silent and is now ringing: each needs one message, the others need none."""
    with broker.pipeline(transaction=False) as pipe:
        for domain in shop_domains:
            pipe.set(key_of(domain), b"1", nx=True, px=LIFE_MILLISECONDS)
        answers = pipe.execute()
    return [domain for domain, rung in zip(shop_domains, answers, strict=True) if rung]


def answer(broker: Redis, shop_domain: str) -> None:
    """Silence the bell. Called before anything is claimed, never after."""
    broker.delete(key_of(shop_domain))


silence = answer  # also when the message could not be sent: the next event may try again at once
