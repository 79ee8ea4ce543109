"""Discount codes at Shopify: made, taken away, given back. One benefit, once (R21-R23, R30, S11).

Each step reads the state, decides by the pure rules (models/rules/codes.py), says on its outbox row what it is about to
send, sends absolute values, reads back, and books. A worker that dies anywhere in between is followed by one that reads
what was done: what was done at Shopify is a fact, and is booked though nobody wants it any more (R23).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.errors import (
    AccessDenied,
    InvalidSetting,
    Later,
    Never,
    NotFound,
    OutcomeUnknown,
    Refused,
    ShopifyRefused,
    UnwindError,
)
from models.rules.codes import (
    CODE_TAKEN,
    NO_VALUE,
    AlreadyUsable,
    Benefit,
    Deactivate,
    Delete,
    DiscountState,
    FreshDiscount,
    Impossible,
    Known,
    PutBackEnd,
    SetUsageLimit,
    Shared,
    Terms,
    Used,
    benefit_of,
    decide,
    decide_removal,
    derived_code,
    is_ours,
)
from models.rules.program import Reward, program_at
from models.settings import Settings
from tasks.gateway.client import Gateway
from tasks.steps import discounts
from tasks.steps.endings import code_is_back, code_is_gone, end_whole, locked_for_use, locked_whole
from tasks.steps.load import open_world
from tasks.steps.outbox import Leased, finish, put
from tasks.steps.programs import programs_of
from tasks.steps.settle import settle

DERIVATIONS = 3  # codes tried for one fresh discount; that even the second is taken, nobody will see
SENT = "sent"  # in a row's payload: what may have been sent, so that nothing but a look decides

REDEMPTION = text(
    "select r.*, o.placed_at as used_at from redemptions r"
    " left join orders o on o.shop_id = r.shop_id and o.order_id = :order_id"
    " where r.shop_id = :shop_id and r.id = :id"
)
CODES = text(
    "select c.n, c.code, c.discount_id,"
    " (select count(*) from order_codes o where o.shop_id = c.shop_id and o.code = c.code_key) as uses,"
    " exists (select from order_codes o where o.shop_id = c.shop_id and o.code = c.code_key"
    "   and o.order_id = :order_id) as on_order"
    " from redemption_codes c where c.shop_id = :shop_id and c.redemption_id = :id order by c.n"
)
LOCK = text("select code_state, ended from redemptions where shop_id = :shop_id and id = :id for update")
SET_CODE = text(
    "update redemptions set code_state = :state, code_error = :error, code_ends_at = coalesce(:ends_at, code_ends_at)"
    " where shop_id = :shop_id and id = :id"
)
SET_DISCOUNT = text(
    "update redemption_codes set discount_id = :discount_id"
    " where shop_id = :shop_id and redemption_id = :id and n = :n"
)
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
MARK = text(
    "update outbox set payload = payload || cast(:more as jsonb)"
    " where shop_id = :shop_id and id = :row and state = 'leased' and attempts = :attempts returning 1"
)
TURN_TO = text(
    "update outbox set payload = (payload - 'sent') || jsonb_build_object('order_id', cast(:order_id as bigint)),"
    " state = 'pending', leased_until = null, not_before = :now"
    " where shop_id = :shop_id and id = :row and state = 'leased' and attempts = :attempts"
)
UNMARK = text(
    "update outbox set payload = payload - 'sent' where shop_id = :shop_id and id = :row and attempts = :attempts"
)
MAY_BE_SENT = text("select jsonb_exists(payload, 'sent') from outbox where shop_id = :shop_id and id = :row")
STOP_MAKING = text(
    "update outbox set state = 'cancelled', finished_at = :now where shop_id = :shop_id and kind = 'create_code'"
    " and (payload ->> 'redemption_id')::bigint = :id and state = 'pending'"
)
IS_BEING_MADE = text(
    "select exists (select from outbox where shop_id = :shop_id and kind = 'create_code'"
    " and (payload ->> 'redemption_id')::bigint = :id and state = 'leased')"
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


def create(engine: Engine, gateway: Gateway, leased: Leased, *, now: datetime | None = None) -> str:
    """Make the first code of a redemption. What cannot be made gives the points back, whole (`code_failed`).

    Safe to run twice, and after an outcome that nobody knows: the code is looked up first, and one with our mark is ours.
    """
    return _Making(engine, gateway, leased, now).run()


def remove(engine: Engine, gateway: Gateway, leased: Leased, *, now: datetime | None = None) -> str:
    """Take an unused code away, then give its points back if the row says so (`then`: auto_refunded, cancelled).

    Safe to run twice: a code that is gone is gone, and what has ended stays ended. Raises Refused (code_used,
    code_shared): nothing was changed.
    """
    return _Removing(engine, gateway, leased, now).run()


def reactivate(
    engine: Engine, gateway: Gateway, key: bytes, leased: Leased, *, now: datetime | None = None
) -> str:
    """Make the code of a redemption usable again for the use on an order that was given up (R22, R23, S11).

    Safe to run twice, twice at once, and after an outcome that nobody knows: values are absolute, a fresh code is
    derived, and a use is booked as given back once. What cannot be given back is told, and its points are (R23).
    """
    return _GivingBack(engine, gateway, key, leased, now).run()


class _Job:
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


class _Making(_Job):
    """A redemption's first code."""

    def run(self) -> str:
        with self.engine.begin() as connection:
            redemption = self.redemption(connection)
            if redemption.code_state != "wanted" or redemption.ended is not None:
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
            if now_is.ended is not None or now_is.code_state not in ("wanted", "active"):
                put(connection, self.shop.id, "remove_code", f"remove_code:{self.id}:late", self._named)
                return self.finish(connection, "made, and not wanted any more: it is taken away")
            self.set_code(connection, "active")
            return self.finish(connection, f"discount {discount_id} made for redemption {self.id}")

    @property
    def _named(self) -> dict[str, int]:
        return {"redemption_id": self.id}


class _Removing(_Job):
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
        returned = 0 if then is None else _end(connection, self.leased, then, self.now)
        if redemption.code_state != "none":
            self.set_code(connection, "removed")
        return self.finish(connection, words + (f", {returned} given back ({then})" if then else ""))


class _GivingBack(_Job):
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
        made: Made | Impossible | None = self._seen(codes, code)
        if made is None:
            made = self._act(codes, code, known)
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


def create_given_up(connection: Connection, leased: Leased, error: Never) -> None:
    """A code that cannot be made: its points come back whole, unless it may be there for all we know (R21)."""
    job = {"shop_id": leased.shop.id, "id": int(leased.payload["redemption_id"])}
    _, _, redemption = locked_whole(connection, leased.shop, job["id"], datetime.now(UTC))
    if redemption.code_state != "wanted":
        return
    if _may_be_sent(connection, leased):
        words = "nobody knows whether the code was made; look for it at Shopify, then try the row again"
        connection.execute(SET_CODE, {**job, "state": "wanted", "error": words, "ends_at": None})
        return
    connection.execute(SET_CODE, {**job, "state": "failed", "error": str(error), "ends_at": None})
    _end(connection, leased, "code_failed", datetime.now(UTC))


def reactivate_given_up(connection: Connection, leased: Leased, error: Never) -> None:
    """A code that cannot be asked about: given up in the open (R23), unless it may be back for all we know."""
    if not _may_be_sent(connection, leased):
        ids = (int(leased.payload["redemption_id"]), int(leased.payload["order_id"]))
        code_is_gone(connection, leased.shop, *ids, reason=str(error), now=datetime.now(UTC))


def _may_be_sent(connection: Connection, leased: Leased) -> bool:
    return bool(connection.execute(MAY_BE_SENT, {"shop_id": leased.shop.id, "row": leased.id}).scalar_one())


def _end(connection: Connection, leased: Leased, kind: str, now: datetime) -> int:
    """Give the redemption back whole; nothing when an order was told of meanwhile that used it (R21)."""
    try:
        with connection.begin_nested():
            return end_whole(
                connection, leased.shop, int(leased.payload["redemption_id"]), kind=kind, now=now
            )
    except Refused:
        return 0


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
