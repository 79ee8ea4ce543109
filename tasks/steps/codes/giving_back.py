"""A used code, usable once more (R22, R23, S11)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.errors import (
    AccessDenied,
    InvalidSetting,
    Later,
    NeedsMerchant,
    Never,
    NotFound,
    OutcomeUnknown,
    ShopifyRefused,
)
from models.rules.codes import (
    CODE_TAKEN,
    NOT_CONNECTED,
    AlreadyUsable,
    Benefit,
    DiscountState,
    FreshDiscount,
    Impossible,
    Known,
    PutBackEnd,
    SetUsageLimit,
    benefit_of,
    decide,
    derived_code,
    is_ours,
)
from models.settings import Settings
from tasks.gateway.client import Gateway
from tasks.steps import discounts
from tasks.steps.codes.job import SET_DISCOUNT, Job, may_be_sent
from tasks.steps.endings import code_is_back, code_is_gone, locked_for_use
from tasks.steps.load import open_world
from tasks.steps.outbox import Leased
from tasks.steps.settle import settle

DERIVATIONS = 3  # codes tried for one fresh discount; that even the second is taken, nobody will see
SHOW_CODE = text(
    "update redemptions set code = :code, code_key = :code_key where shop_id = :shop_id and id = :id"
)
KEEP_CODE = text(
    "insert into redemption_codes (shop_id, code_key, redemption_id, n, code) values (:shop_id, :code_key, :id, :n, :code)"
    " on conflict (shop_id, redemption_id, n) do update set code = excluded.code, code_key = excluded.code_key"
)
FORGET_CODE = text(
    "delete from redemption_codes where shop_id = :shop_id and redemption_id = :id and n > 0"
    " and discount_id is null"
)
TURN_TO = text(
    "update outbox set payload = (payload - 'sent') || jsonb_build_object('order_id', cast(:order_id as bigint)),"
    " state = 'pending', leased_until = null, not_before = :now"
    " where shop_id = :shop_id and id = :row and state = 'leased' and attempts = :attempts"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What is true at Shopify now. `sure`: we did it, so it is booked in any case; else only while it is wanted."""

    words: str
    ends_at: datetime | None
    fresh_code: str | None = None
    discount_id: int | None = None
    n: int = 0
    sure: bool = True


def codes_key(settings: Settings) -> bytes:
    """The key of derived codes: from the first key of stored tokens, by a label of its own. Raises InvalidSetting."""
    if not settings.token_keys:
        raise InvalidSetting("TOKEN_ENCRYPTION_KEYS", "is empty; codes that come back are derived from it")
    return hmac.digest(settings.token_keys[0], b"unwind: discount codes", hashlib.sha256)


def reactivate(
    engine: Engine, gateway: Gateway, key: bytes, leased: Leased, *, now: datetime | None = None
) -> str:
    """Make the code of a redemption usable again for the use on an order that was given up (R22, R23, S11).

    Safe to run twice, twice at once, and after an outcome that nobody knows: values are absolute, a fresh code is
    derived, and a use is booked as given back once. What cannot be given back is told, and its points are (R23).
    """
    return GivingBack(engine, gateway, key, leased, now).run()


class GivingBack(Job):
    """A used code, usable once more."""

    def __init__(
        self, engine: Engine, gateway: Gateway, key: bytes, leased: Leased, now: datetime | None
    ) -> None:
        super().__init__(engine, gateway, leased, now)
        self.secret = key
        self.order_id = int(leased.payload["order_id"])

    def run(self) -> str:
        with self.engine.begin() as connection:
            use = self._locked(connection)
            if self._is_booked(use):
                return self.finish(connection, "the code is back already")
            if not self._is_wanted(use) and self.sent is None:
                return self._drop(connection, use)
            codes = self.codes(connection, self.order_id)
            known, code = self._known(connection, codes)
        made = self._seen(codes, code) or self._acted(codes, code, known)
        if made is None:
            return self._not_wanted()
        return self._gone(made) if isinstance(made, Impossible) else self._back(made)

    # -- what is so ----------------------------------------------------------------------------------

    def _locked(self, connection: Connection, more: str | None = None) -> Row[Any]:
        """The redemption, under every lock that settling its orders takes: it stays as it is until we commit."""
        return locked_for_use(connection, self.shop, self.id, self.order_id, self.now, more)

    def _is_booked(self, use: Row[Any]) -> bool:
        return str(self.order_id) in use.reactivated_orders

    def _is_wanted(self, use: Row[Any]) -> bool:
        return bool(
            use.reactivation == "wanted" and use.order_id == self.order_id and not self._is_booked(use)
        )

    def _known(self, connection: Connection, codes: Sequence[Row[Any]]) -> tuple[Known, Row[Any]]:
        """What is on record of the code that the order used, the newest of several."""
        redemption = self.redemption(connection, self.order_id)
        if not codes or redemption.used_at is None:
            raise NotFound("used code of redemption", self.id)
        code = next((code for code in reversed(codes) if code.on_order), codes[-1])
        reward = self.reward(connection, redemption)
        benefit = None if reward is None else benefit_of(redemption.kind, reward.value)
        known = Known(
            uses=code.uses,
            customer_id=redemption.customer_id,
            used_at=redemption.used_at,
            ends_at=redemption.code_ends_at,
            reward=benefit if isinstance(benefit, Benefit) else None,
        )
        return known, code

    def _seen(self, codes: Sequence[Row[Any]], code: Row[Any]) -> Made | None:
        """What an earlier try, of which nobody knows the end, has done at Shopify: that is a fact."""
        if self.sent is None:
            return None
        n = self.sent.get("n")  # of a fresh code
        asked = code if n is None else next(each for each in codes if each.n == n)
        found = discounts.by_code(self.gateway, self.shop, asked.code)
        if found is not None and n is None and _was_reached(found, self.sent):
            return _changed(found)
        if found is not None and n is not None and self._is_ours(found, n):
            return _fresh_made(asked.code, n, found.id, found.ends_at)
        with self.engine.begin() as connection:
            self._locked(connection)
            self._forget(connection)
            self._decided_again(connection)
        return None

    def was_not_done(self) -> None:
        with self.engine.begin() as connection:
            self._locked(connection)
            self._decided_again(connection)

    def _decided_again(self, connection: Connection) -> Row[Any]:
        """Known again: nothing came back. What waited for that is decided by all that was told meanwhile (R21)."""
        self.unmark(connection)
        settle(open_world(connection, self.shop, self.now), orders=[self.order_id])
        return self._locked(connection)

    def _is_ours(self, found: DiscountState, n: int) -> bool:
        return is_ours(found, redemption_id=self.id, n=n, discount_id=None)

    # -- what is done --------------------------------------------------------------------------------

    def _acted(self, codes: Sequence[Row[Any]], code: Row[Any], known: Known) -> Made | Impossible | None:
        """What was done. A shop that never gave access has nobody to wait for: its code cannot come back (R23)."""
        try:
            return self._act(codes, code, known)
        except NeedsMerchant as error:
            if error.reason != "not_connected":
                raise
            return Impossible(reason=NOT_CONNECTED)

    def _act(self, codes: Sequence[Row[Any]], code: Row[Any], known: Known) -> Made | Impossible | None:
        """Decide by the state as it is now, and do it. None: it is not wanted any more."""
        found = discounts.by_code(self.gateway, self.shop, code.code)
        decision = decide(found, known, self.now)
        if isinstance(decision, AlreadyUsable):
            assert found is not None
            return Made(words="usable as it is", ends_at=found.ends_at, sure=False)
        if isinstance(decision, FreshDiscount):
            made = [each.n for each in codes if each.n == 0 or each.discount_id is not None]
            return self._make(decision, max(made) + 1, known)
        if isinstance(decision, SetUsageLimit | PutBackEnd):
            assert found is not None
            return self._change(found, decision, code, known)
        return decision

    def _change(
        self, found: DiscountState, asked: SetUsageLimit | PutBackEnd, code: Row[Any], known: Known
    ) -> Made | Impossible | None:
        sent = _as_sent(asked, known.customer_id)
        if not self._intend(sent):
            return None
        try:
            with self.sending():
                discounts.update(self.gateway, self.shop, found, asked, known.customer_id)
        except (ShopifyRefused, AccessDenied) as error:
            return Impossible(reason=str(error))
        now_is = discounts.by_code(self.gateway, self.shop, code.code)
        if now_is is None or not _was_reached(now_is, sent):
            raise OutcomeUnknown("the discount does not read as it was set")
        return _changed(now_is)

    def _make(self, fresh: FreshDiscount, n: int, known: Known) -> Made | Impossible | None:
        """A discount of his own under a derived code. One that is there with our mark was made by an earlier try."""
        for attempt in range(DERIVATIONS):
            code = derived_code(
                self.secret, shop_id=self.shop.id, redemption_id=self.id, n=n, attempt=attempt
            )
            if not self._intend({"n": n}, code=code):
                return None
            found = discounts.by_code(self.gateway, self.shop, code)
            if found is None:
                new = self._fresh(fresh, code, n, known)
                try:
                    with self.sending():
                        id = discounts.create(self.gateway, self.shop, new)
                    return _fresh_made(code, n, id, fresh.ends_at)
                except AccessDenied as error:
                    return Impossible(reason=str(error))
                except ShopifyRefused as error:
                    if discounts.TAKEN not in error.codes:
                        return Impossible(reason=str(error))
                    found = discounts.by_code(self.gateway, self.shop, code)
            if found is not None and self._is_ours(found, n):
                return _fresh_made(code, n, found.id, found.ends_at)
        return Impossible(reason=CODE_TAKEN)

    def _fresh(self, fresh: FreshDiscount, code: str, n: int, known: Known) -> discounts.New:
        return discounts.New(
            code=code,
            title=f"Redemption {self.id}, given back ({n})",
            redemption_id=self.id,
            n=n,
            customer_id=known.customer_id,
            starts_at=known.used_at,
            ends_at=fresh.ends_at,
            terms=fresh.terms,
        )

    def _intend(self, sent: Mapping[str, Any], *, code: str | None = None) -> bool:
        """Say what is about to be sent, while it is wanted; until it is known to be done or not, nothing else comes back
        for this use (R21). A fresh code is on record before Shopify has it, so that no order can use it unseen."""
        with self.engine.begin() as connection:
            if not self._is_wanted(self._locked(connection, code)):
                return False
            if code is not None:
                values = {**self.key, "n": sent["n"], "code": code, "code_key": code.casefold()}
                connection.execute(KEEP_CODE, values)
            self.mark(connection, sent)
            settle(open_world(connection, self.shop, self.now), orders=[self.order_id])
        return True

    # -- what becomes of it --------------------------------------------------------------------------

    def _back(self, made: Made) -> str:
        with self.engine.begin() as connection:
            use = self._locked(connection, made.fresh_code)
            if not made.sure and not self._is_wanted(use):
                return self._drop(connection, use)
            if made.fresh_code is not None:
                code = {"code": made.fresh_code, "code_key": made.fresh_code.casefold()}
                connection.execute(SET_DISCOUNT, {**self.key, "n": made.n, "discount_id": made.discount_id})
                connection.execute(SHOW_CODE, {**self.key, **code})  # the one that can be used now
            code_is_back(
                connection,
                self.shop,
                self.id,
                self.order_id,
                ends_at=made.ends_at,
                now=self.now,
                fresh_code=made.fresh_code,
                discount_id=made.discount_id,
            )
            return self.finish(connection, f"the code of redemption {self.id} is back: {made.words}")

    def _gone(self, impossible: Impossible) -> str:
        with self.engine.begin() as connection:
            use = self._locked(connection)
            self._forget(connection)
            if self.sent is not None:
                use = self._decided_again(connection)
            if not self._is_wanted(use):
                return self._drop(connection, use)
            code_is_gone(connection, self.shop, self.id, self.order_id, reason=impossible.words, now=self.now)
            return self.finish(connection, f"the code of redemption {self.id} cannot come back")

    def _not_wanted(self) -> str:
        with self.engine.begin() as connection:
            use = self._locked(connection)
            if not self._is_wanted(use):
                return self._drop(connection, use)
        raise Later("it is wanted again")

    def _drop(self, connection: Connection, use: Row[Any]) -> str:
        """Nothing was done, and nobody wants it for this order. Another order's wish takes the row over."""
        self._forget(connection)
        if use.reactivation == "wanted" and use.order_id != self.order_id:
            row = {"shop_id": self.shop.id, "row": self.leased.id, "attempts": self.leased.attempts}
            connection.execute(TURN_TO, {**row, "order_id": use.order_id, "now": self.now})
            return "wanted for another order now; nothing was done"
        self.unmark(connection)
        return self.finish(connection, "not wanted any more; nothing was done", "cancelled")

    def _forget(self, connection: Connection) -> None:
        """A fresh code that was never made stands for nothing."""
        connection.execute(FORGET_CODE, self.key)


def reactivate_given_up(connection: Connection, leased: Leased, error: Never) -> None:
    """A code that cannot be asked about: given up in the open (R23), unless it may be back for all we know."""
    if not may_be_sent(connection, leased):
        ids = (int(leased.payload["redemption_id"]), int(leased.payload["order_id"]))
        code_is_gone(connection, leased.shop, *ids, reason=str(error), now=datetime.now(UTC))


def _as_sent(asked: SetUsageLimit | PutBackEnd, customer_id: int) -> dict[str, Any]:
    """What a call is to bring about, as it is kept."""
    return {
        "usage_limit": asked.usage_limit if isinstance(asked, SetUsageLimit) else None,
        "ends_at": discounts.time_text(asked.ends_at),
        "customer_id": customer_id if asked.add_customer else None,
    }


def _was_reached(found: DiscountState, sent: Mapping[str, Any]) -> bool:
    """Whether a discount stands where a call was to bring it: such a limit, or an end no earlier; and his customer."""
    if sent["customer_id"] is not None and sent["customer_id"] not in (found.customers or ()):
        return False
    if sent["usage_limit"] is not None:
        return found.has_room(sent["usage_limit"] - 1)
    if found.ends_at is None or sent["ends_at"] is None:
        return found.ends_at is None
    return found.ends_at >= datetime.fromisoformat(sent["ends_at"])


def _changed(found: DiscountState) -> Made:
    limit = "no limit" if found.usage_limit is None else f"limit {found.usage_limit}"
    return Made(words=f"its own discount, {limit}", ends_at=found.ends_at)


def _fresh_made(code: str, n: int, discount_id: int, ends_at: datetime | None) -> Made:
    return Made(
        words=f"a discount of its own, {discount_id}",
        ends_at=ends_at,
        fresh_code=code,
        discount_id=discount_id,
        n=n,
    )
