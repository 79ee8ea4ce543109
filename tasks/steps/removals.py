"""Asking for a code to be taken away at Shopify, and what is to follow from that (R30, R34, R38).

Whoever decides writes a row of the outbox in his own transaction; `tasks/steps/codes/removing.py` does it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from tasks.steps import outbox

AUTO_REFUNDED = "auto_refunded"  # the redemption comes back whole (R30)
CANCELLED = "cancelled"  # a merchant's cancellation is booked (R34)
UNDO = "undo"  # a merchant's undo goes on (R38)

AGAIN = text(
    "update outbox set payload = cast(:payload as jsonb), state = 'pending', attempts = 0, not_before = now(),"
    " rung_at = null, finished_at = null, outcome = null, error_code = null, error = null"
    " where shop_id = :shop_id and key = :key and state not in ('pending', 'leased') returning 1"
)

Asked = str | Mapping[str, Mapping[str, Any]]


class Then(NamedTuple):
    """What follows once the code is gone, and what was said when it was asked for."""

    kind: str
    said: Mapping[str, Any]


def ask_removal(
    connection: Connection, shop_id: int, redemption_id: int, *, then: Asked | None, key: str
) -> bool:
    """Have every code of the redemption that could still be used taken away. False when it is asked for already.

    then: `auto_refunded`; `{"cancelled": {"by", "reason", "force"}}`; `{"undo": {...}}`, handed to `merchants.finish_undo`
    in the transaction that ends the row; None for nothing. What a merchant asks for can be asked for again once it has
    ended, the others once a key.
    """
    asked = {"redemption_id": redemption_id} | ({} if then is None else {"then": then})
    if outbox.put(connection, shop_id, "remove_code", key, asked):
        return True
    if not isinstance(then, Mapping):
        return False
    again = {"shop_id": shop_id, "key": key, "payload": json.dumps(asked)}
    return connection.execute(AGAIN, again).one_or_none() is not None


def then_of(payload: Mapping[str, Any]) -> Then | None:
    """What a row says is to follow."""
    then = payload.get("then")
    if then is None or isinstance(then, str):
        return None if then is None else Then(then, {})
    ((kind, said),) = then.items()
    return Then(kind, said)
