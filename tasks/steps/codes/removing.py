"""A code that nobody should use any more, taken away at Shopify (R30, R34)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.errors import (
    Later,
    Refused,
)
from models.rules.codes import (
    Deactivate,
    Delete,
    DiscountState,
    Shared,
    Used,
    decide_removal,
    is_ours,
)
from tasks.gateway.client import Gateway
from tasks.steps import discounts
from tasks.steps.codes.job import Job, give_back_whole
from tasks.steps.outbox import Leased

STOP_MAKING = text(
    "update outbox set state = 'cancelled', finished_at = :now where shop_id = :shop_id and kind = 'create_code'"
    " and (payload ->> 'redemption_id')::bigint = :id and state = 'pending'"
)
IS_BEING_MADE = text(
    "select exists (select from outbox where shop_id = :shop_id and kind = 'create_code'"
    " and (payload ->> 'redemption_id')::bigint = :id and state = 'leased')"
)


def remove(engine: Engine, gateway: Gateway, leased: Leased, *, now: datetime | None = None) -> str:
    """Take an unused code away, then give its points back if the row says so (`then`: auto_refunded, cancelled).

    Safe to run twice: a code that is gone is gone, and what has ended stays ended. Raises Refused (code_used,
    code_shared): nothing was changed.
    """
    return Removing(engine, gateway, leased, now).run()


class Removing(Job):
    """An unused code, taken away."""

    def run(self) -> str:
        with self.engine.begin() as connection:
            redemption = self.redemption(connection)
            self._stop_making(connection, redemption)
            codes = self.codes(connection)
        words = "it had no code" if not codes else self._take_away(redemption, codes[-1])
        with self.engine.begin() as connection:
            return self._book(connection, redemption, words)

    def _stop_making(self, connection: Connection, redemption: Row[Any]) -> None:
        """A code that is still to be made is not made. Raises Later while somebody is at it."""
        if redemption.code_state != "wanted":
            return
        connection.execute(STOP_MAKING, {**self.key, "now": self.now})
        if connection.execute(IS_BEING_MADE, self.key).scalar_one():
            raise Later("the code is being made")

    def _take_away(self, redemption: Row[Any], code: Row[Any]) -> str:
        found, ours = self._find(code)
        decision = decide_removal(
            found, uses=code.uses, customer_id=redemption.customer_id, ours=ours, now=self.now
        )
        if isinstance(decision, Used):
            raise Refused("code_used", "the code was used, so its value is on an order")
        if isinstance(decision, Shared):
            raise Refused(
                "code_shared", "its discount is not this redemption's alone, so it was left as it is"
            )
        if isinstance(decision, Delete):
            discounts.delete(self.gateway, self.shop, decision.id)
            return "its discount is deleted"
        if isinstance(decision, Deactivate):
            discounts.deactivate(self.gateway, self.shop, decision.id)
            return "its discount is ended"
        return "its code was gone already"

    def _find(self, code: Row[Any]) -> tuple[DiscountState | None, bool]:
        """The discount behind a code, and whether we made it; ours also when somebody renamed its code."""
        found = discounts.by_code(self.gateway, self.shop, code.code)
        if found is None and code.discount_id is not None:
            found = discounts.by_id(self.gateway, self.shop, code.discount_id)
        if found is None:
            return None, False
        return found, is_ours(found, redemption_id=self.id, n=code.n, discount_id=code.discount_id)

    def _book(self, connection: Connection, redemption: Row[Any], words: str) -> str:
        """The code is gone; with `then`, its points come back in the same transaction."""
        then = self.leased.payload.get("then")
        returned = 0 if then is None else give_back_whole(connection, self.leased, then, self.now)
        if redemption.code_state != "none":
            self.set_code(connection, "removed")
        return self.finish(connection, words + (f", {returned} given back ({then})" if then else ""))
