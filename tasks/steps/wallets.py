"""What puts value into wallets and takes it out, beside orders: grants and redemptions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from models.errors import Refused
from models.rules.program import Program
from models.rules.wallet import GRANT, SPEND
from tasks.steps import outbox, sql
from tasks.steps.activities import entry, say
from tasks.steps.installations import is_connected
from tasks.steps.load import (
    World,
    customers_booked,
    customers_of,
    load_orders,
    load_redemptions,
    lock_codes,
    lock_wallets,
    open_world,
)
from tasks.steps.settle import settle, settle_clock, settle_items
from tasks.steps.shops import by_id
from tasks.steps.survivors import survivor, survivors
from tasks.steps.timeline import item, redemption_target

CODED_KINDS = (
    "amount_discount",
    "percentage_discount",
    "free_shipping",
)  # rewards that a discount code carries
CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: nothing that looks like something else
CODE_GROUPS, CODE_GROUP_LETTERS = 3, 4  # 60 bits: nobody guesses one

NEXT_GRANT = text("select nextval('grant_ids')")
KNOWN = text("select customer_id from wallets where shop_id = :shop_id and customer_id = any(:ids)")
BALANCES = text(
    "select customer_id, balance from wallets where shop_id = :shop_id and customer_id = any(:ids)"
)
ADD_REDEMPTION = text(
    "insert into redemptions (shop_id, customer_id, reward_id, kind, amount, code, code_key, code_state, at)"
    " values (:shop_id, :customer_id, :reward_id, :kind, :amount, :code, :code_key, :code_state, :at) returning id"
)
ADD_CODE = text(
    "insert into redemption_codes (shop_id, code_key, redemption_id, n, code)"
    " values (:shop_id, :code_key, :redemption_id, 0, :code)"
)
ORDERS_WITH = text("select order_id from order_codes where shop_id = :shop_id and code = :code")


def grant(
    connection: Connection,
    shop_id: int,
    customer_id: int,
    *,
    amount: int,
    reason: str,
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Give value that no order earned; opens the wallet of a customer not seen yet. Amount in the smallest unit."""
    now = now or datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        raise Refused(
            "expires_in_the_past", "expires_at must lie in the future", expires_at=expires_at.isoformat()
        )
    world = open_world(connection, by_id(connection, shop_id), now)
    customer_id = survivor(connection, shop_id, customer_id)
    lock_wallets(world, [customer_id])
    number = connection.execute(NEXT_GRANT).scalar_one()
    cause = f"grant:{number}"
    row = item(
        shop_id=shop_id,
        customer_id=customer_id,
        kind=GRANT,
        cause=cause,
        target=cause,
        at=now,
        sort_id=number,
        amount=amount,
        expires_at=expires_at,
        policy_version=world.programs[-1].version,
    )
    settle_items(world, [row], cause)
    say(world, [entry(world, "grant.reason", customer_id, None, cause, cause, {"reason": reason})])
    answer = {"id": str(number), "customer_id": str(customer_id), "amount": amount, "reason": reason}
    balance = _balances(connection, shop_id, [customer_id])[customer_id]
    return {**answer, "expires_at": expires_at and expires_at.isoformat(), "balance": balance}


def redeem(
    connection: Connection,
    shop_id: int,
    customer_id: int,
    *,
    reward: str,
    amount: int | None = None,
    code: str | None = None,
    sources: Sequence[tuple[int, int]] | None = None,
    now: datetime | None = None,
) -> int:
    """Spend on a reward, from one wallet or several (R20). Returns the redemption's id.

    code: it is there already, and is tracked. Without one, a reward that is a discount gets a code of its own, which
    is made at Shopify within seconds (`code_state`); any other reward is booked without a code.
    Refuses (unknown_reward, wrong_amount, unknown_customer, insufficient_balance, code_taken, not_connected) before
    anything moves.
    """
    now = now or datetime.now(UTC)
    world = open_world(connection, by_id(connection, shop_id), now)
    cost, kind = _price(world.programs[-1], reward, amount)
    now_one = survivors(connection, shop_id, [customer_id, *(member for member, _ in sources or ())])
    customer_id = now_one.get(customer_id, customer_id)
    members = _members(customer_id, cost, sources, now_one)
    code_key = None if code is None else code.strip().casefold()
    lock_codes(world, [] if code_key is None else [code_key])
    _check_known(connection, shop_id, [customer_id, *members])
    carriers = [] if code_key is None else _carriers(connection, shop_id, code_key)
    lock_wallets(world, [customer_id, *members, *_concerned(world, carriers)])
    settle_clock(world, list(members))
    _check_balances(connection, shop_id, members)
    values = {"shop_id": shop_id, "customer_id": customer_id, "reward_id": reward, "kind": kind, "at": now}
    values |= {"amount": cost, **_code_values(connection, shop_id, code, kind)}
    redemption_id = _add(connection, values)
    _spend(world, redemption_id, members)
    if carriers:
        settle(open_world(connection, world.shop, now), orders=carriers)
    return redemption_id


def new_code() -> str:
    """A discount code that nobody has: `7Q4M-K0ZT-93FA`."""
    groups = range(CODE_GROUPS)
    return "-".join("".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_GROUP_LETTERS)) for _ in groups)


def _code_values(connection: Connection, shop_id: int, code: str | None, kind: str) -> dict[str, Any]:
    """The code's columns: given to us, to be made at Shopify, or none. Raises Refused (not_connected)."""
    if code is not None:
        return {"code": code, "code_key": code.strip().casefold(), "code_state": "tracked"}
    if kind not in CODED_KINDS:
        return {"code": None, "code_key": None, "code_state": "none"}
    if not is_connected(connection, shop_id):
        raise Refused(
            "not_connected",
            "the reward's code cannot be made: the shop gave no access to Shopify; install the app there, or make the"
            " code yourself and send it as `code`",
        )
    made = new_code()
    return {"code": made, "code_key": made.casefold(), "code_state": "wanted"}


def _concerned(world: World, carriers: Sequence[int]) -> list[int]:
    """Everyone whose wallet settling these orders will lock; the orders are locked now, for they come before wallets."""
    if not carriers:
        return []
    load_orders(world, carriers)
    load_redemptions(world)
    return [*customers_of(world), *customers_booked(world)]


def _price(program: Program, reward_id: str, amount: int | None) -> tuple[int, str]:
    if reward_id == "custom":
        if amount is None or amount <= 0:
            raise Refused("wrong_amount", "a custom redemption needs an amount above zero")
        return amount, "custom"
    reward = program.rewards.get(reward_id)
    if reward is None:
        known = ", ".join(sorted(program.rewards)) or "none"
        raise Refused(
            "unknown_reward", f"the program has no reward {reward_id!r}; it has: {known}", reward=reward_id
        )
    if amount is not None and amount != reward.cost:
        raise Refused("wrong_amount", f"the reward {reward_id!r} costs {reward.cost}", cost=reward.cost)
    return reward.cost, reward.kind


def _members(
    customer_id: int, cost: int, sources: Sequence[tuple[int, int]] | None, now_one: Mapping[int, int]
) -> Mapping[int, int]:
    """Customer -> what he gives. Sources that were merged into one customer give as one (R33)."""
    if not sources:
        return {customer_id: cost}
    if any(part <= 0 for _, part in sources) or len({member for member, _ in sources}) != len(sources):
        raise Refused("wrong_sources", "each source is a different customer with an amount above zero")
    members: dict[int, int] = {}
    for named, part in sources:
        member = now_one.get(named, named)
        members[member] = members.get(member, 0) + part
    if sum(members.values()) != cost:
        raise Refused(
            "wrong_sources", f"the sources sum to {sum(members.values())}, the redemption to {cost}"
        )
    return dict(sorted(members.items()))


def _check_known(connection: Connection, shop_id: int, ids: Sequence[int]) -> None:
    known = set(connection.execute(KNOWN, {"shop_id": shop_id, "ids": list(ids)}).scalars())
    for id in ids:
        if id not in known:
            raise Refused(
                "unknown_customer",
                f"customer {id} has no wallet here yet; a grant opens one",
                customer_id=str(id),
            )


def _carriers(connection: Connection, shop_id: int, code_key: str) -> list[int]:
    """Orders that came before the redemption was told: their use of the code counts all the same."""
    return list(connection.execute(ORDERS_WITH, {"shop_id": shop_id, "code": code_key}).scalars())


def _check_balances(connection: Connection, shop_id: int, members: Mapping[int, int]) -> None:
    balances = _balances(connection, shop_id, list(members))
    for id, part in members.items():
        if balances[id] < part:
            raise Refused(
                "insufficient_balance",
                f"customer {id} has {balances[id]}, which is less than {part}",
                customer_id=str(id),
                balance=balances[id],
                needed=part,
            )


def _balances(connection: Connection, shop_id: int, ids: Sequence[int]) -> dict[int, int]:
    rows = connection.execute(BALANCES, {"shop_id": shop_id, "ids": list(ids)})
    return {row.customer_id: row.balance for row in rows}


def _add(connection: Connection, values: Mapping[str, Any]) -> int:
    """The redemption's row, its code's, and the wish to have that made where it is ours. Raises Refused (code_taken)."""
    try:
        with connection.begin_nested():
            redemption_id = int(connection.execute(ADD_REDEMPTION, values).scalar_one())
            if values["code"] is not None:
                connection.execute(ADD_CODE, {**values, "redemption_id": redemption_id})
            if values["code_state"] == "wanted":
                key, payload = f"create_code:{redemption_id}", {"redemption_id": redemption_id}
                outbox.put(connection, values["shop_id"], "create_code", key, payload)
            return redemption_id
    except IntegrityError as error:
        if "pk_redemption_codes" in str(error):
            raise Refused(
                "code_taken", f"the code {values['code']!r} is tracked already", discount_code=values["code"]
            ) from None
        raise


def _spend(world: World, redemption_id: int, members: Mapping[int, int]) -> None:
    key = {"shop_id": world.shop.id, "redemption_id": redemption_id}
    rows = [{**key, "customer_id": member, "amount": part} for member, part in members.items()]
    sql.insert(world.connection, "redemption_members", rows)
    program = world.programs[-1]
    target = redemption_target(redemption_id)
    items = [
        item(
            shop_id=world.shop.id,
            customer_id=member,
            kind=SPEND,
            cause=target,
            target=target,
            at=world.now,
            sort_id=redemption_id,
            redemption_id=redemption_id,
            amount=part,
            carry_debt=program.carry_debt,
            policy_version=program.version,
        )
        for member, part in members.items()
    ]
    fresh = open_world(world.connection, world.shop, world.now)
    lock_wallets(fresh, members)
    settle_items(fresh, items, target)
