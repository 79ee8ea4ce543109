"""The first code of a redemption, made at Shopify (R21)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.errors import (
    Later,
    Never,
    Refused,
    ShopifyRefused,
)
from models.rules.codes import (
    CODE_TAKEN,
    NO_VALUE,
    Benefit,
    Impossible,
    Terms,
    benefit_of,
    is_ours,
)
from models.rules.program import Reward
from tasks.gateway.client import Gateway
from tasks.steps import discounts
from tasks.steps.codes.job import SET_CODE, SET_DISCOUNT, Job, give_back_whole, may_be_sent
from tasks.steps.endings import locked_whole
from tasks.steps.outbox import Leased
from tasks.steps.removals import ask_removal

LOCK = text(
    "select code_state, ended, returned, amount from redemptions where shop_id = :shop_id and id = :id for update"
)


def create(engine: Engine, gateway: Gateway, leased: Leased, *, now: datetime | None = None) -> str:
    """Make the first code of a redemption. What cannot be made gives the points back, whole (`code_failed`).

    Safe to run twice, and after an outcome that nobody knows: the code is looked up first, and one with our mark is ours.
    """
    return Making(engine, gateway, leased, now).run()


class Making(Job):
    """A redemption's first code."""

    def run(self) -> str:
        with self.engine.begin() as connection:
            redemption = self.redemption(connection)
            if redemption.code_state != "wanted" or _is_back(redemption):
                return self.finish(connection, "the code is not wanted any more", "cancelled")
            reward = self.reward(connection, redemption)
            benefit = benefit_of(redemption.kind, "0" if reward is None else reward.value)
            if isinstance(benefit, Impossible):
                return self._none(connection, benefit)
        new = _new(redemption, reward, benefit)
        return self._book(self._made_before(new.code) or self._make(new))

    def _none(self, connection: Connection, why: Impossible) -> str:
        """A reward that is no discount stays without a code; one whose value makes none has failed (Refused)."""
        if why.reason == NO_VALUE:
            raise Refused("no_value", why.words)
        self.set_code(connection, "none", why.words)
        return self.finish(connection, f"no code is made: {why.words}")

    def _made_before(self, code: str) -> int | None:
        """The id of the discount with this code, which we made. Raises Refused when somebody else did."""
        found = discounts.by_code(self.gateway, self.shop, code)
        if found is not None and is_ours(found, redemption_id=self.id, n=0, discount_id=None):
            return found.id
        if self.sent is not None:
            self.was_not_done()
        if found is not None:
            raise Refused("code_taken_at_shopify", Impossible(reason=CODE_TAKEN).words)
        return None

    def _make(self, new: discounts.New) -> int:
        with self.engine.begin() as connection:
            self.mark(connection, {"n": 0})
        try:
            with self.sending():
                return discounts.create(self.gateway, self.shop, new)
        except ShopifyRefused as error:
            if discounts.TAKEN in error.codes:
                return self._taken(new.code)
            raise

    def _taken(self, code: str) -> int:
        """Somebody made it since we looked: another try of ours, or not."""
        found = self._made_before(code)
        if found is None:
            raise Later("the code is taken, and no discount has it")
        return found

    def _book(self, discount_id: int) -> str:
        with self.engine.begin() as connection:
            now_is = connection.execute(LOCK, self.key).one()
            connection.execute(SET_DISCOUNT, {**self.key, "n": 0, "discount_id": discount_id})
            if _is_back(now_is) or now_is.code_state not in ("wanted", "active"):
                ask_removal(connection, self.shop.id, self.id, then=None, key=f"remove_code:{self.id}:late")
                return self.finish(connection, "made, and not wanted any more: it is taken away")
            self.set_code(connection, "active")
            return self.finish(connection, f"discount {discount_id} made for redemption {self.id}")


def create_given_up(connection: Connection, leased: Leased, error: Never) -> None:
    """A code that cannot be made: its points come back whole, unless it may be there for all we know (R21)."""
    job = {"shop_id": leased.shop.id, "id": int(leased.payload["redemption_id"])}
    _, _, redemption = locked_whole(connection, leased.shop, job["id"], datetime.now(UTC))
    if redemption.code_state != "wanted":
        return
    if may_be_sent(connection, leased):
        words = "nobody knows whether the code was made; look for it at Shopify, then try the row again"
        connection.execute(SET_CODE, {**job, "state": "wanted", "error": words, "ends_at": None})
        return
    connection.execute(SET_CODE, {**job, "state": "failed", "error": str(error), "ends_at": None})
    give_back_whole(connection, leased, "code_failed", datetime.now(UTC))


def _is_back(redemption: Row[Any]) -> bool:
    """Whether its value came back whole: by itself, or by a merchant's hand (R34, R35)."""
    return redemption.ended is not None or redemption.returned == redemption.amount


def _new(redemption: Row[Any], reward: Reward | None, benefit: Benefit) -> discounts.New:
    """The discount of a redemption's first code."""
    name = "Reward" if reward is None else reward.name
    return discounts.New(
        code=redemption.code,
        title=f"{name} (redemption {redemption.id})",
        redemption_id=redemption.id,
        n=0,
        customer_id=redemption.customer_id,
        starts_at=redemption.at,
        ends_at=redemption.code_ends_at,
        terms=Terms(benefit=benefit),
    )
