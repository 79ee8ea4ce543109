"""One effect a key: a write that is sent again under its Idempotency-Key is answered as it was, not done again.

The key is inserted before the effect and completed after it, in the effect's own transaction: UNIQUE (shop, key) is the
promise. Of two calls at once the second waits on the first one's insert, then reads its answer; when the first rolled
back, the second does the work. A refusal is an answer too; what may be tried again (a busy database) is not kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from app.api.errors import KeyReused
from models.tables.shops import IdempotencyKey

UNANSWERED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as it goes out: the text is kept, so that a repeat is the same to the byte; `kept` instead, where some of
    it is told once. `file` instead of a text that may be long; never of a write."""

    status: int
    text: str
    again: bool = False
    media_type: str = "application/json"
    file: IO[bytes] | None = None
    kept: str | None = None


def digest_of(method: str, path: str, document: Any) -> bytes:
    """What makes two calls the same: the method, the path, and the content of the body (not its spacing)."""
    canonical = json.dumps([method, path, document], sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).digest()


def once(
    connection: Connection, shop_id: int, *, key: str, request_digest: bytes, do: Callable[[], Answer]
) -> Answer:
    """The answer under `key`: of `do()` when it is new, the kept one when not. Raises KeyReused."""
    row = {
        "shop_id": shop_id,
        "key": key,
        "request_digest": request_digest,
        "status": UNANSWERED,
        "response": {},
    }
    claim = insert(IdempotencyKey).values(row).on_conflict_do_nothing().returning(IdempotencyKey.key)
    if connection.execute(claim).first() is None:
        answer = known(connection, shop_id, key=key, request_digest=request_digest)
        assert answer is not None, "a key that was taken is gone"
        return answer
    answer = do()
    connection.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.shop_id == shop_id, IdempotencyKey.key == key)
        .values(status=answer.status, response={"text": answer.text if answer.kept is None else answer.kept})
    )
    return answer


def known(connection: Connection, shop_id: int, *, key: str, request_digest: bytes) -> Answer | None:
    """The kept answer, None under a new key. Raises KeyReused."""
    row = connection.execute(
        select(IdempotencyKey.request_digest, IdempotencyKey.status, IdempotencyKey.response).where(
            IdempotencyKey.shop_id == shop_id, IdempotencyKey.key == key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.request_digest != request_digest:
        raise KeyReused
    assert row.status != UNANSWERED, "a key without an answer was committed"
    return Answer(status=row.status, text=row.response["text"], again=True)
