"""What each refund of the demo did, and whether everything that must hold does.

Three witnesses: the store knows what it sold and gave back, the JSON API says what stands, the database has the books.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sqlalchemy import TextClause, text

from app.cli.demo_story import Api, Story
from app.sandbox.expect import Expected
from app.sandbox.records import Order, Refund
from app.sandbox.world import Plan
from models.rules.money import from_minor
from tasks.steps.replay import replay
from tasks.steps.verify import verify

MISMATCHES_SHOWN = 5
RETURN, CLAIM = 3, 4  # kinds of timeline rows
CODE_BACK = "CODE_REACTIVATED"
IN_WORDS = {
    "ALREADY_CLOSED": "the order was closed already",
    "AMOUNT_ONLY": "no items, so no redeemed points",
    "CAPPED": "capped at what was left",
    CODE_BACK: "the code is given back, instead of points",
    "MONEY_DIFFERS": "the settled money counts",
    "MONEY_FAILED": "the money did not move",
    "MONEY_PENDING": "the money is pending",
    "NO_MONEY_MOVED": "no money moved",
    "REMAINDER": "closes the order",
    "SHIPPING_ONLY": "shipping only, so no redeemed points",
}


@dataclass(frozen=True)
class Effect:
    """One refund: what was given back (money as text), and what it took and returned in points."""

    order: str
    scenario: str
    refund_id: str
    amount: str
    total: str
    ratio: str
    reversed: int
    returned: int
    result: str


@dataclass(frozen=True)
class Check:
    """`detail`: how much was looked at, or what did not hold."""

    name: str
    held: bool
    detail: str


@dataclass(frozen=True)
class Outcome:
    """What the demo prints at its end."""

    story: Story
    effects: list[Effect]
    checks: list[Check]
    seconds: float

    @property
    def held(self) -> bool:
        return all(check.held for check in self.checks)


# -- what each refund did --------------------------------------------------------------------------------------------

REFUNDS = text("select refund_id, value_minor, reasons from refunds where shop_id = :shop")
MOVES = text(
    "select cause, kind, sum(amount)::bigint as amount, sum(short)::bigint as short from timeline"
    " where shop_id = :shop and cause like 'refund:%' and kind in (3, 4) group by cause, kind"
)
REASONS = text(
    "select distinct cause, jsonb_array_elements_text(reasons) as reason from timeline where shop_id = :shop and cause like 'refund:%'"
)


@dataclass
class Deed:
    """What the books say of one refund, in points, and why."""

    reversed: int = 0
    returned: int = 0
    short: int = 0
    reasons: tuple[str, ...] = ()


def rows_of(story: Story, query: TextClause) -> list[Any]:
    with story.engine.connect() as connection:
        return list(connection.execute(query, {"shop": story.shop_id, "domain": story.domain}))


def deeds_of(story: Story) -> dict[int, Deed]:
    """By refund id."""
    deeds = {row.refund_id: Deed(reasons=tuple(row.reasons)) for row in rows_of(story, REFUNDS)}
    for row in rows_of(story, MOVES):
        deed = deeds[int(row.cause.removeprefix("refund:"))]
        if row.kind == CLAIM:
            deed.reversed, deed.short = row.amount, row.short
        else:
            deed.returned = row.amount
    for row in rows_of(story, REASONS):
        deed = deeds[int(row.cause.removeprefix("refund:"))]
        if row.reason not in deed.reasons:
            deed.reasons += (row.reason,)
    return deeds


def effects_of(story: Story, deeds: Mapping[int, Deed]) -> list[Effect]:
    """Every refund of the store in its own time, with what the books say of it."""
    pairs = [(order, refund) for order in story.world.store.orders.values() for refund in order.refunds]
    pairs.sort(key=lambda pair: (pair[0].number, pair[1].at, pair[1].id))
    return [_effect(order, refund, deeds.get(refund.id)) for order, refund in pairs]


def _effect(order: Order, refund: Refund, deed: Deed | None) -> Effect:
    value, total = refund.settled_minor, order.placed_total_minor
    return Effect(
        order=order.name,
        scenario=order.scenario,
        refund_id=str(refund.id),
        amount=from_minor(value, order.currency),
        total=from_minor(total, order.currency),
        ratio=str(Fraction(value, total)),
        reversed=deed.reversed if deed else 0,
        returned=deed.returned if deed else 0,
        result=_result(order, deed),
    )


def _result(order: Order, deed: Deed | None) -> str:
    if deed is None:
        return "never seen"
    said = [IN_WORDS.get(reason, reason.lower().replace("_", " ")) for reason in sorted(deed.reasons)]
    if order.customer is None:
        said.append("a guest, no wallet")
    elif order.test:
        said.append("a test order, nothing earned")
    if deed.short:
        said.append(f"{deed.short} short, forgiven")
    return ", ".join(said) or "in proportion"


# -- what must hold --------------------------------------------------------------------------------------------------

EVENTS = text(
    "select state, count(*) as events, count(distinct webhook_id) as ids from inbox where shop_domain = :domain"
    " and topic <> 'orders/read' group by state"  # those are what we read ourselves, not deliveries
)
INSTALLATION = text(
    "select state, access_token is not null and refresh_token is not null and access_expires_at > now() as ends"
    " from installations where shop_id = :shop"
)
OUTBOX = text(
    "select state, count(*) as rows, max(error) as error from outbox where shop_id = :shop group by state"
)
UNEQUAL_BALANCES = text(
    "select w.customer_id, w.balance, coalesce(l.total, 0) as lots, coalesce(e.total, 0) as entries from wallets w"
    " left join (select customer_id, sum(remainder) as total from lots where shop_id = :shop group by 1) l"
    "   using (customer_id)"
    " left join (select customer_id, sum(amount) as total from entries where shop_id = :shop group by 1) e"
    "   using (customer_id)"
    " where w.shop_id = :shop and (w.balance <> coalesce(l.total, 0) or w.balance <> coalesce(e.total, 0))"
)


def checks_of(story: Story, deeds: Mapping[int, Deed]) -> list[Check]:
    """Everything but what is checked by doing things again."""
    api = story.api
    orders = {plan.placed.id: api.call("GET", f"/orders/{plan.placed.id}") for plan in story.world.plans}
    redeemed = {code: api.call("GET", f"/redemptions/{id}") for code, id in story.redemptions.items()}
    return [
        installed(story),
        deliveries_answered(story),
        *events_processed(story, api),
        refunds_seen(story, deeds),
        balances_add_up(story),
        as_expected(
            "each refund took and gave back what it should", refund_mismatches(story, deeds), len(deeds)
        ),
        as_expected("each order stands as it should", order_mismatches(story, orders), len(orders)),
        as_expected(
            "each redemption came back as it should, once",
            redemption_mismatches(story, redeemed),
            len(redeemed),
        ),
        *wallets_as_expected(story, api, redeemed),
        *codes_as_expected(story, redeemed),
        compared(story),
        recomputed(story),
    ]


def untouched(name: str, before: Sequence[Any], after: Sequence[Any]) -> Check:
    """Nothing that stands has changed."""
    rows = sum(len(table) for table in before)
    return Check(
        name,
        before == after,
        f"{rows} rows of the books compared" if before == after else "the books changed",
    )


def recomputed(story: Story) -> Check:
    """The same as `unwind verify`."""
    with story.engine.connect() as connection:
        found = verify(connection, story.shop_id)
    return as_expected(
        "the books recomputed from the record show no difference", map(str, found), len(story.world.plans)
    )


def replayed(story: Story) -> Check:
    """The same as `unwind replay`."""
    done = replay(story.engine, story.domain, None)
    detail = f"{done.events} events run again, {done.changed} changed something"
    return Check("recorded events run again change nothing", done.events > 0 and not done.changed, detail)


def as_expected(name: str, mismatches: Iterable[str], compared: int) -> Check:
    found = list(mismatches)
    if not found:
        return Check(name, True, f"{compared} compared")
    more = f" and {len(found) - MISMATCHES_SHOWN} more" if len(found) > MISMATCHES_SHOWN else ""
    return Check(name, False, "; ".join(found[:MISMATCHES_SHOWN]) + more)


def deliveries_answered(story: Story) -> Check:
    reports = story.reports
    sendings = sum(report.sendings for report in reports)
    detail = (
        f"{sendings} sendings, {sum(r.repeats for r in reports)} of them repeats,"
        f" {sum(r.renamed for r in reports)} under another id, {sum(r.retries for r in reports)} tried again"
    )
    given_up = sum(len(report.given_up) for report in reports)
    held = all(report.all_accepted for report in reports)
    return Check(
        "every delivery was answered 2xx", held, detail if held else f"{given_up} given up; {detail}"
    )


def events_processed(story: Story, api: Api) -> Iterator[Check]:
    sent = set().union(*(report.webhook_ids for report in story.reports))
    by_state = {row.state: (row.events, row.ids) for row in rows_of(story, EVENTS)}
    done = by_state.get("done", (0, 0))
    yield Check(
        "every event was processed once",
        done == (len(sent), len(sent)) and set(by_state) <= {"done"},
        ", ".join(f"{events} {state}" for state, (events, _) in sorted(by_state.items()))
        + f" of {len(sent)} ids",
    )
    failed = api.call("GET", "/failed")
    entries = next((value for value in failed.values() if isinstance(value, list)), [])
    yield Check("nothing failed", not entries, "none under failed" if not entries else str(entries[:2]))


def refunds_seen(story: Story, deeds: Mapping[int, Deed]) -> Check:
    made = {refund.id for order in story.world.store.orders.values() for refund in order.refunds}
    missing, invented = made - set(deeds), set(deeds) - made
    detail = f"{len(made)} refunds" if made == set(deeds) else f"missing {missing}, never made {invented}"
    return Check("each refund was seen exactly once", made == set(deeds), detail)


def balances_add_up(story: Story) -> Check:
    wrong = [f"customer {row.customer_id}" for row in rows_of(story, UNEQUAL_BALANCES)]
    wallets = rows_of(story, text("select customer_id from wallets where shop_id = :shop"))
    return as_expected("each balance is the sum of its lots and of its entries", wrong, len(wallets))


# -- what was done at the store --------------------------------------------------------------------------------------


def installed(story: Story) -> Check:
    """By the merchant's consent: the store gave tokens, and they end and can be refreshed."""
    row = next(iter(rows_of(story, INSTALLATION)), None)
    with story.shopfront.lock:
        granted = story.shopfront.access.installed and "access_token" in story.shopfront.calls
    held = granted and row is not None and row.state == "active" and bool(row.ends)
    detail = f"scopes {', '.join(story.shopfront.access.granted)}" if held else f"the installation is {row}"
    return Check("the store was connected by its merchant's consent", held, detail)


def codes_as_expected(story: Story, redeemed: Mapping[str, Any]) -> Iterator[Check]:
    yield outside_work_done(story)
    yield as_expected("every code asked for is at the store", code_mismatches(story), len(redeemed))
    yield as_expected(
        "each code given back could be used once more, once, until its end date",
        again_mismatches(story),
        len(story.again),
    )
    both = (code for code, found in redeemed.items() if found["returned"] and found["restitution"] == "code")
    yield as_expected("nothing came back both as points and as a code", both, len(redeemed))


def compared(story: Story) -> Check:
    """R28: what no webhook told is found by comparison with the store and made good; then there is nothing to find.
    The worker's own comparison may have been first with some."""
    first, second = story.comparisons
    lost, found = {order.id for order in story.lost}, {finding.order_id for finding in first.repaired}
    held = len(first.findings) == len(first.repaired) and found <= lost and not second.findings
    detail = f"{len(found)} of {len(lost)} lost orders found and made good, then {len(second.findings)}"
    detail += f" in {second.orders_read} read whole"
    wrong = [finding.what for finding in (*first.findings, *second.findings)][:MISMATCHES_SHOWN]
    return Check(
        "a comparison with the store found what was lost in the post, and then nothing",
        held,
        detail if held else f"{detail}: {'; '.join(wrong)}",
    )


def outside_work_done(story: Story) -> Check:
    rows = rows_of(story, OUTBOX)
    detail = ", ".join(f"{row.rows} {row.state}" for row in rows) or "nothing was asked for"
    wrong = next((row.error for row in rows if row.state not in ("done", "cancelled")), None)
    return Check(
        "everything to be done at the store was done",
        {row.state for row in rows} <= {"done", "cancelled"},
        detail if wrong is None else f"{detail}: {wrong}",
    )


def code_mismatches(story: Story) -> Iterator[str]:
    """The store has each code, and counts the orders that used it."""
    store = story.world.store
    for spent in story.world.redemptions:
        found = store.codes.find(spent.code)
        if found is None:
            yield f"{spent.code} is not there"
            continue
        orders = {o.id for o in store.orders.values() if spent.code.casefold() in map(str.casefold, o.codes)}
        if {use.order_id for use in found[1].uses} != orders:
            yield f"{spent.code} was used on {len(found[1].uses)} orders instead of {len(orders)}"


def again_mismatches(story: Story) -> Iterator[str]:
    for again in story.again:
        if again.refused is not None:
            yield f"given back, but {again.refused}"
        if again.refused_again is None:
            yield f"{again.code} could be used twice more"
        if again.ends_at != story.end_dates[again.redemption_id]:
            yield f"{again.code} ends {again.ends_at} instead of {story.end_dates[again.redemption_id]}"


# -- against what the store works out on its own ---------------------------------------------------------------------


def expectations(story: Story) -> Iterator[tuple[Plan, Expected]]:
    """The orders whose outcome can be worked out in the head: all but edited ones."""
    for plan in story.world.plans:
        expected = story.world.expectation(plan)
        if expected is not None:
            yield plan, expected


def refund_mismatches(story: Story, deeds: Mapping[int, Deed]) -> Iterator[str]:
    """R1-R4, R12-R15: the points of each refund of an order that was not edited."""
    for plan, expected in expectations(story):
        for id, effect in expected.by_refund.items():
            deed = deeds.get(id, Deed())
            got, wanted = (deed.reversed, deed.returned), (effect.reversed, effect.returned)
            if got != wanted:
                yield f"refund {id} of {plan.placed.name}: reversed, returned {got} instead of {wanted}"


def order_mismatches(story: Story, orders: Mapping[int, Any]) -> Iterator[str]:
    """What the API says of each order: its status, its award, its redemptions."""
    for plan, expected in expectations(story):
        order, got = plan.placed, orders[plan.placed.id]
        awards = [(award["amount"], award["reversed"]) for award in got["awards"]]
        wanted = [(expected.awarded, expected.reversed)] if awards or expected.awarded else []
        if awards != wanted:
            yield f"{order.name}: awards {awards} instead of {wanted}"
        if got["status"] != status_of(order, expected):
            yield f"{order.name}: {got['status']} instead of {status_of(order, expected)}"


def status_of(order: Order, expected: Expected) -> str:
    if expected.closed:
        never_paid = {"voided": "voided", "pending": "cancelled"}
        return never_paid.get(order.financial_status, "fully_refunded")
    return "partially_refunded" if order.refunded_minor else "open"


def redemption_mismatches(story: Story, redeemed: Mapping[str, Any]) -> Iterator[str]:
    """R21 and R22: a value comes back once, as points or as a code; a code that may come back does."""
    used_again = {again.redemption_id for again in story.again}
    for plan, expected in expectations(story):
        for spent in plan.spent:
            found = redeemed[spent.code]
            back = "code" if spent.code in expected.reactivated else None
            points = 0 if back else expected.returned[spent.code]
            if found["order_id"] != str(plan.placed.id) and found["id"] not in used_again:
                yield f"{plan.placed.name}: {spent.code} is not known to be used"
            if found["returned"] != points:
                yield f"{plan.placed.name}: {found['returned']} of {spent.code} returned instead of {points}"
            if back and found["id"] not in used_again:
                yield f"{plan.placed.name}: {spent.code} was not given back ({found['reactivation']})"


def wallets_as_expected(story: Story, api: Api, redeemed: Mapping[str, Any]) -> Iterator[Check]:
    edited = {plan.customer.id for plan in story.world.plans if plan.customer and plan.placed.edits}
    plain = [id for id in story.world.store.customers if id not in edited and _known(story, id)]
    wallets = {id: api.call("GET", f"/customers/{id}") for id in plain}
    regular = [id for id in plain if id not in story.spendings]
    wrong = (
        f"customer {id}: {wallets[id]['balance']} instead of {wanted}"
        for id in regular
        if wallets[id]["balance"] != (wanted := regular_balance(story, id, redeemed))
    )
    yield as_expected("each balance is what was given, earned, spent and taken back", wrong, len(regular))
    spenders = [id for id in plain if id in story.spendings]
    wrong = (
        f"customer {id}: {wallets[id]['balance']} instead of {wanted}"
        for id in spenders
        if wallets[id]["balance"] != (wanted := spenders_balance(story, id))
    )
    yield as_expected("points spent before a refund are forgiven, never owed", wrong, len(spenders))


def _known(story: Story, customer_id: int) -> bool:
    """Whether the product has any reason to know the customer."""
    granted = any(grant.customer_id == customer_id for grant in story.world.grants)
    return granted or any(
        e.awarded for p, e in expectations(story) if p.customer and p.customer.id == customer_id
    )


def regular_balance(story: Story, customer_id: int, redeemed: Mapping[str, Any]) -> int:
    """Grants less redemptions, awards less reversals, and what came back of redemptions (as the API says)."""
    balance = sum(grant.points for grant in story.world.grants if grant.customer_id == customer_id)
    for plan, expected in expectations(story):
        if plan.customer is None or plan.customer.id != customer_id:
            continue
        balance += expected.awarded - expected.reversed - sum(spent.points for spent in plan.spent)
        balance += sum(redeemed[spent.code]["returned"] for spent in plan.spent)
    return balance


def spenders_balance(story: Story, customer_id: int) -> int:
    """R7: earned, spent in part or all, then reversed: the balance stops at zero."""
    [expected] = [e for p, e in expectations(story) if p.customer and p.customer.id == customer_id]
    return max(0, expected.awarded - story.spendings[customer_id] - expected.reversed)
