"""Codes that nobody should use any more, taken away at Shopify (R30, R34, R38)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.errors import (
    Later,
    NeedsMerchant,
    Never,
    Refused,
)
from models.rules.cancelling import CODE_SHARED, CODE_USED, NOT_CONNECTED
from models.rules.codes import (
    Deactivate,
    Delete,
    DiscountState,
    Gone,
    Removal,
    Shared,
    Used,
    decide_removal,
    is_ours,
)
from tasks.gateway.client import Gateway
from tasks.steps import cancelling, discounts, merchants
from tasks.steps.codes.job import Job, give_back_whole
from tasks.steps.outbox import Leased
from tasks.steps.removals import AUTO_REFUNDED, CANCELLED, UNDO, Then, then_of
from tasks.steps.reversals import held

STOP_MAKING = text(
    "update outbox set state = 'cancelled', finished_at = :now where shop_id = :shop_id and kind = 'create_code'"
    " and (payload ->> 'redemption_id')::bigint = :id and state = 'pending'"
)
IS_BEING_MADE = text(
    "select exists (select from outbox where shop_id = :shop_id and kind = 'create_code'"
    " and (payload ->> 'redemption_id')::bigint = :id and state = 'leased')"
)
FORGET_WORDS = text(
    "update outbox set payload = payload #- '{then,cancelled,reason}'"
    " where shop_id = :shop_id and id = :row and state = 'leased' and attempts = :attempts"
)
WORDS = {
    CODE_USED: "the code was used, so its value is on an order",
    CODE_SHARED: "its discount is not this redemption's alone, so it was left as it is",
}


def remove(engine: Engine, gateway: Gateway, leased: Leased, *, now: datetime | None = None) -> str:
    """Take every code of a redemption that could still be used away, then do what the row says is to follow (`then`).

    Safe to run twice: a code that is gone is gone, and what has ended stays ended. A code that is used, shared or out of
    reach is left with all others. That is an answer for a merchant who cancels; else Refused (code_used, code_shared).
    """
    return Removing(engine, gateway, leased, now).run()


class Removing(Job):
    """Unused codes, taken away."""

    def __init__(self, engine: Engine, gateway: Gateway, leased: Leased, now: datetime | None) -> None:
        super().__init__(engine, gateway, leased, now)
        self.then = then_of(leased.payload)
        self.given_back: list[str] = []  # uses, as they stood before Shopify was asked
        self.at = now  # of what is booked; None: when the locks are held

    def run(self) -> str:
        with self.engine.begin() as connection:
            redemption = self.redemption(connection)
            self._stop_making(connection, redemption)
            codes = self.codes(connection)
        self.given_back = list(redemption.reactivated_orders)
        try:
            words = self._take_away(redemption, codes)
        except Refused as refused:
            return self._stays(refused, refused.code)
        except NeedsMerchant as error:
            return self._stays(error, NOT_CONNECTED)
        with self.engine.begin() as connection:
            return self._book(connection, redemption, words)

    def _stop_making(self, connection: Connection, redemption: Row[Any]) -> None:
        """A code that is still to be made is not made. Raises Later while somebody is at it."""
        if redemption.code_state != "wanted":
            return
        connection.execute(STOP_MAKING, {**self.key, "now": self.now})
        if connection.execute(IS_BEING_MADE, self.key).scalar_one():
            raise Later("the code is being made")

    # -- at Shopify ----------------------------------------------------------------------------------

    def _take_away(self, redemption: Row[Any], codes: Sequence[Row[Any]]) -> str:
        """All of them, or none: nothing is changed before each is known to be free. Raises Refused."""
        decisions = [self._decided(redemption, code) for code in codes]
        if any(isinstance(decision, Used) for decision in decisions):
            raise Refused(CODE_USED, WORDS[CODE_USED])
        if any(isinstance(decision, Shared) for decision in decisions):
            raise Refused(CODE_SHARED, WORDS[CODE_SHARED])
        done = [self._done(decision) for decision in decisions]
        return ", ".join(dict.fromkeys(done)) or "it had no code"

    def _decided(self, redemption: Row[Any], code: Row[Any]) -> Removal:
        found, ours = self._find(code)
        return decide_removal(
            found,
            uses=code.uses - code.given_back,
            given_back=code.given_back,
            customer_id=redemption.customer_id,
            ours=ours,
            now=self.now,
        )

    def _done(self, decision: Removal) -> str:
        if isinstance(decision, Delete):
            discounts.delete(self.gateway, self.shop, decision.id)
            return "its discount is deleted"
        if isinstance(decision, Deactivate):
            discounts.deactivate(self.gateway, self.shop, decision.id)
            return "its discount is ended"
        assert isinstance(decision, Gone)
        return "its code was gone already"

    def _find(self, code: Row[Any]) -> tuple[DiscountState | None, bool]:
        """The discount behind a code, and whether we made it; ours also when somebody renamed its code."""
        found = discounts.by_code(self.gateway, self.shop, code.code)
        if found is None and code.discount_id is not None:
            found = discounts.by_id(self.gateway, self.shop, code.discount_id)
        if found is None:
            return None, False
        return found, is_ours(found, redemption_id=self.id, n=code.n, discount_id=code.discount_id)

    # -- what becomes of it --------------------------------------------------------------------------

    def _book(self, connection: Connection, redemption: Row[Any], words: str) -> str:
        """The code is gone; what follows from that is booked in the same transaction."""
        self._check_nothing_came_back(connection)
        if self.then is not None and self.then.kind in (CANCELLED, UNDO):
            said = self._followed(connection, self.then)
            return self._answered(connection, f"{words}, {said}")
        if self.then is not None:
            returned = give_back_whole(connection, self.leased, self.then.kind, self.now)
            words += f", {returned} given back ({self.then.kind})"
        if redemption.code_state != "none":
            self.set_code(connection, "removed")
        return self.finish(connection, words)

    def _followed(self, connection: Connection, then: Then) -> str:
        if then.kind == CANCELLED:
            key = self.leased.key
            return cancelling.code_gone(connection, self.shop, self.id, then.said, cause=key, now=self.at)
        if cancelling.is_used(connection, self.shop, self.id, self.now):  # told of meanwhile
            merchants.undo_refused(connection, self.shop, then.said, code=CODE_USED)
            return "not undone: it was used"
        return merchants.finish_undo(connection, self.shop, then.said)

    def _stays(self, error: Never, code: str) -> str:
        """Nothing was changed. Raises the error unless somebody waits for this answer: a merchant who cancels."""
        if self.then is None or self.then.kind == AUTO_REFUNDED:
            raise error
        with self.engine.begin() as connection:
            self._check_nothing_came_back(connection)
            return self._answered(connection, _told(connection, self.leased, code, str(error), self.at))

    def _check_nothing_came_back(self, connection: Connection) -> None:
        """Under the locks of what is booked. Raises Later when a code came back since Shopify was asked (R21): look again."""
        _, row = held(connection, self.shop, self.id, self.at)
        if list(row.reactivated_orders) != self.given_back:
            raise Later("a code came back meanwhile")

    def _answered(self, connection: Connection, said: str) -> str:
        """Done, and what the merchant typed is on the record, not here any more."""
        row = {"shop_id": self.shop.id, "row": self.leased.id, "attempts": self.leased.attempts}
        connection.execute(FORGET_WORDS, row)
        return self.finish(connection, said)


def remove_given_up(connection: Connection, leased: Leased, error: Never) -> None:
    """A code that cannot be asked about, or was tried in vain for too long: whoever waits for it is told."""
    then = then_of(leased.payload)
    if then is not None and then.kind != AUTO_REFUNDED:
        _told(connection, leased, error.code, str(error), None)


def _told(connection: Connection, leased: Leased, code: str, words: str, now: datetime | None) -> str:
    then = then_of(leased.payload)
    assert then is not None
    if then.kind == UNDO:
        merchants.undo_refused(connection, leased.shop, then.said, code=code)
        return f"not undone: {code}"
    return cancelling.code_stays(
        connection,
        leased.shop,
        int(leased.payload["redemption_id"]),
        then.said,
        code=code,
        words=words,
        cause=leased.key,
        now=now,
    )
