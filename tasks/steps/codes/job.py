"""What the three kinds of work on a code share: its redemption, what may have been sent for it, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.errors import (
    Later,
    NotFound,
    OutcomeUnknown,
    Refused,
    UnwindError,
)
from models.rules.program import Reward, program_at
from tasks.gateway.client import Gateway
from tasks.steps.endings import end_whole
from tasks.steps.outbox import Leased, finish
from tasks.steps.programs import programs_of

SENT = "sent"  # in a row's payload: what may have been sent, so that nothing but a look decides
REDEMPTION = text(
    "select r.*, o.placed_at as used_at from redemptions r"
    " left join orders o on o.shop_id = r.shop_id and o.order_id = :order_id"
    " where r.shop_id = :shop_id and r.id = :id"
)
CODES = text(
    "select c.n, c.code, c.discount_id,"
    " (select count(*) from order_codes o where o.shop_id = c.shop_id and o.code = c.code_key) as uses,"
    " (select count(*) from order_codes o join redemptions r on r.shop_id = c.shop_id and r.id = c.redemption_id"
    "   where o.shop_id = c.shop_id and o.code = c.code_key"
    "   and jsonb_exists(r.reactivated_orders, o.order_id::text)) as given_back,"
    " exists (select from order_codes o where o.shop_id = c.shop_id and o.code = c.code_key"
    "   and o.order_id = :order_id) as on_order"
    " from redemption_codes c where c.shop_id = :shop_id and c.redemption_id = :id order by c.n"
)
SET_CODE = text(
    "update redemptions set code_state = :state, code_error = :error, code_ends_at = coalesce(:ends_at, code_ends_at)"
    " where shop_id = :shop_id and id = :id"
)
SET_DISCOUNT = text(
    "update redemption_codes set discount_id = :discount_id"
    " where shop_id = :shop_id and redemption_id = :id and n = :n"
)
MARK = text(
    "update outbox set payload = payload || cast(:more as jsonb)"
    " where shop_id = :shop_id and id = :row and state = 'leased' and attempts = :attempts returning 1"
)
UNMARK = text(
    "update outbox set payload = payload - 'sent' where shop_id = :shop_id and id = :row and attempts = :attempts"
)
MAY_BE_SENT = text("select jsonb_exists(payload, 'sent') from outbox where shop_id = :shop_id and id = :row")


class Job:
    """One row of the outbox: its redemption, what may have been sent for it, and how it ends."""

    def __init__(self, engine: Engine, gateway: Gateway, leased: Leased, now: datetime | None) -> None:
        self.engine, self.gateway, self.leased = engine, gateway, leased
        self.shop = leased.shop
        self.id = int(leased.payload["redemption_id"])
        self.now = now or datetime.now(UTC)
        self.sent: Mapping[str, Any] | None = leased.payload.get(SENT)

    @property
    def key(self) -> dict[str, Any]:
        return {"shop_id": self.shop.id, "id": self.id}

    def redemption(self, connection: Connection, order_id: int | None = None) -> Row[Any]:
        row = connection.execute(REDEMPTION, {**self.key, "order_id": order_id}).one_or_none()
        if row is None:
            raise NotFound("redemption", self.id)
        return row

    def codes(self, connection: Connection, order_id: int | None = None) -> Sequence[Row[Any]]:
        return connection.execute(CODES, {**self.key, "order_id": order_id}).all()

    def reward(self, connection: Connection, redemption: Row[Any]) -> Reward | None:
        program = program_at(programs_of(connection, self.shop.id), redemption.at)
        return program.rewards.get(redemption.reward_id)

    def mark(self, connection: Connection, sent: Mapping[str, Any]) -> None:
        """Say what is about to be sent. Raises Later when the lease was lost: another works on the row."""
        key = {"shop_id": self.shop.id, "row": self.leased.id, "attempts": self.leased.attempts}
        said = json.dumps({SENT: sent})
        if connection.execute(MARK, {**key, "more": said}).one_or_none() is None:
            raise Later("another worker took this over")
        self.sent = sent

    def unmark(self, connection: Connection) -> None:
        """It is known again what was done: nothing, or what is booked."""
        key = {"shop_id": self.shop.id, "row": self.leased.id, "attempts": self.leased.attempts}
        connection.execute(UNMARK, key)
        self.sent = None

    def was_not_done(self) -> None:
        with self.engine.begin() as connection:
            self.unmark(connection)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around a call that was announced: every error but one says that nothing was done."""
        try:
            yield
        except UnwindError as error:
            if not isinstance(error, OutcomeUnknown):
                self.was_not_done()
            raise

    def set_code(
        self,
        connection: Connection,
        state: str,
        error: str | None = None,
        ends_at: datetime | None = None,
    ) -> None:
        connection.execute(SET_CODE, {**self.key, "state": state, "error": error, "ends_at": ends_at})

    def finish(self, connection: Connection, outcome: str, state: str = "done") -> str:
        return finish(connection, self.leased, outcome=outcome, state=state)


def may_be_sent(connection: Connection, leased: Leased) -> bool:
    return bool(connection.execute(MAY_BE_SENT, {"shop_id": leased.shop.id, "row": leased.id}).scalar_one())


def give_back_whole(connection: Connection, leased: Leased, kind: str, now: datetime) -> int:
    """Give the redemption back whole; nothing when an order was told of meanwhile that used it (R21)."""
    try:
        with connection.begin_nested():
            return end_whole(
                connection, leased.shop, int(leased.payload["redemption_id"]), kind=kind, now=now
            )
    except Refused:
        return 0
