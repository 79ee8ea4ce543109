"""A seeded world: who buys what with which codes, and how each order comes apart. Same seed and times, same bytes.

world = World(domain=..., seed=7, orders=40, refunds=60)
world.grants, world.redemptions          to make at the loyalty program before anything is bought
world.place(start) -> [Delivery, ...]    the shopping
world.spendings()                        what some customers spend of what they have just earned
world.unwind(start) -> [Delivery, ...]   the refunds, cancellations, voids and edits
world.place_again(customer, code)        one more order, with codes or without
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random

from app.sandbox.expect import Expected, Spent, awarded_points, expect
from app.sandbox.records import Customer, Discount, Order, Presentment, Product
from app.sandbox.scenarios import KEPT, SCENARIOS, Scenario
from app.sandbox.store import Delivery, Store

POINTS_PER_UNIT = 5
CURRENCY = "USD"
PLACING_SECONDS = 5
UNWINDING_SECONDS = 8
FIRST_NAMES = ("Ada", "Bela", "Chidi", "Dana", "Emre", "Fatou", "Goro", "Hana")
LAST_NAMES = ("Abara", "Berg", "Costa", "Diaz", "Endo", "Frey", "Gallo", "Haas")
THINGS = (
    "Mug",
    "Lamp",
    "Scarf",
    "Kettle",
    "Notebook",
    "Backpack",
    "Candle",
    "Blanket",
    "Teapot",
    "Clock",
    "Vase",
    "Basket",
)


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward of the program: `cost` points for `value_minor` off the order."""

    id: str
    name: str
    cost: int
    value_minor: int
    reactivates: bool = False


REWARDS = (
    Reward("5-off", "$5 off", 500, 500),
    Reward("10-off", "$10 off", 900, 1000),
    Reward("welcome-back", "$7 off, given back as a code", 700, 700, reactivates=True),
)


@dataclass(frozen=True, slots=True)
class Grant:
    customer_id: int
    points: int


@dataclass(slots=True)
class Plan:
    """One order of the world before it is placed. `spent` are the loyalty codes that it uses."""

    scenario: Scenario
    refunds: int
    customer: Customer | None
    spends_earnings: bool
    test: bool
    spent: list[Spent] = field(default_factory=list)
    order: Order | None = None

    @property
    def placed(self) -> Order:
        assert self.order is not None, "the order is not placed yet"
        return self.order


class World:
    """`orders` orders and `refunds` refunds of one store. All that chance decides comes from `seed`."""

    def __init__(self, *, domain: str, seed: int, orders: int, refunds: int) -> None:
        assert orders >= 1 and refunds >= 0, (orders, refunds)
        self._dice = Random(seed)  # noqa: S311  a repeatable world, not a secret
        self._now = datetime.fromtimestamp(0, tz=UTC)
        self.store = Store(
            domain=domain,
            currency=CURRENCY,
            dice=self._dice,
            clock=lambda: self._now,
        )
        self._stock()
        self.plans = self._plan(orders, refunds)
        self.grants = self._grants()

    @property
    def redemptions(self) -> list[Spent]:
        return [spent for plan in self.plans for spent in plan.spent]

    def coded(self, spent: Spent, code: str) -> None:
        """The loyalty program gave this code, instead of the one that the world made up."""
        for plan in self.plans:
            plan.spent = [replace(known, code=code) if known is spent else known for known in plan.spent]

    # -- planning ------------------------------------------------------------------------------------------------

    def _stock(self) -> None:
        for thing in THINGS:
            product = Product(
                id=self.store.new_id(),
                title=thing,
                sku=f"{thing[:3].upper()}-{self._dice.randrange(100, 1000)}",
                price_minor=self._dice.randrange(1200, 9000),
            )
            self.store.products[product.id] = product

    def new_customer(self) -> Customer:
        customer = Customer(
            self.store.new_id(), self._dice.choice(FIRST_NAMES), self._dice.choice(LAST_NAMES)
        )
        self.store.customers[customer.id] = customer
        return customer

    def _plan(self, orders: int, refunds: int) -> list[Plan]:
        regulars = [self.new_customer() for _ in range(orders // 3 + 1)]
        plans = [
            self._plan_order(index, scenario, count, regulars)
            for index, (scenario, count) in enumerate(share_out(orders, refunds))
        ]
        self._dice.shuffle(plans)
        return plans

    def _plan_order(self, index: int, scenario: Scenario, refunds: int, regulars: Sequence[Customer]) -> Plan:
        plain = scenario.payment == "paid" and refunds > 0 and "edit" not in scenario.name
        spender = plain and index % 5 == 1
        guest = index % 11 == 9
        customer = None if guest else self.new_customer() if spender else self._dice.choice(regulars)
        plan = Plan(scenario, refunds, customer, spends_earnings=spender, test=index % 13 == 12)
        if customer and not spender:
            for number in range((0, 1, 1, 2)[index % 4]):
                plan.spent.append(self._spend(customer, index, number))
        return plan

    def _spend(self, customer: Customer, index: int, number: int) -> Spent:
        reward = REWARDS[(index // 2 + number) % len(REWARDS)]
        code = f"UNWIND-{index + 1}{'AB'[number]}-{self._dice.getrandbits(24):06X}"
        return Spent(customer.id, reward.id, code, reward.cost, reward.reactivates)

    def _grants(self) -> list[Grant]:
        """Each customer with a code gets what the codes cost, and some more."""
        costs: dict[int, int] = {}
        for spent in self.redemptions:
            costs[spent.customer_id] = costs.get(spent.customer_id, 0) + spent.points
        return [Grant(id, cost + self._dice.randrange(0, 500)) for id, cost in costs.items()]

    # -- what happens --------------------------------------------------------------------------------------------

    def place(self, start: datetime) -> list[Delivery]:
        """Every order is placed, and paid or authorized if its script says so. Takes PLACING_SECONDS or a bit more."""
        for index, plan in enumerate(self.plans):
            self._now = start + timedelta(seconds=self._dice.randrange(PLACING_SECONDS))
            plan.order = self._place(index, plan)
            self._now += timedelta(seconds=1)
            if plan.scenario.payment == "paid":
                self.store.pay(plan.order)
            elif plan.scenario.payment == "authorized":
                self.store.authorize(plan.order)
        return self.store.take_outbox()

    def _place(self, index: int, plan: Plan) -> Order:
        products = self._dice.sample(list(self.store.products.values()), self._dice.randrange(2, 5))
        basket = [(product, self._dice.randrange(1, 4)) for product in products]
        basket[0] = (basket[0][0], self._dice.randrange(2, 5))
        values = {reward.id: reward.value_minor for reward in REWARDS}
        automatic = [Discount(title="Autumn sale", percent=10)] if index % 5 == 3 else []
        codes = [
            Discount(
                title=s.reward,
                code=s.code.lower() if index % 3 == 0 else s.code,
                amount_minor=values[s.reward],
            )
            for s in plan.spent
        ]
        return self.store.place(
            customer=plan.customer,
            basket=basket,
            discounts=[*automatic, *codes],
            shipping_minor=self._dice.choice((495, 750, 1000)),
            tax_basis_points=(0, 825, 1900, 600)[index % 4],
            taxes_included=index % 4 == 2,
            presentment=_presentment(index, plan.scenario),
            test=plan.test,
            scenario=plan.scenario.name,
            big_id=index % 7 == 0,
        )

    def place_again(self, customer: Customer, *codes: str, scenario: str) -> Order:
        """The customer shops once more, and pays. Raises CodeRefused."""
        product = next(iter(self.store.products.values()))
        order = self.store.place(
            customer=customer,
            basket=[(product, 2)],
            discounts=[Discount(title=code, code=code) for code in codes],
            presentment=Presentment(CURRENCY, Fraction(1)),
            scenario=scenario,
        )
        self.store.pay(order)
        self.plans.append(Plan(KEPT, 0, customer, spends_earnings=False, test=False, order=order))
        return order

    def unwind(self, start: datetime) -> list[Delivery]:
        """Every order's script, a second or more between its steps."""
        for plan in self.plans:
            self._now = start + timedelta(seconds=self._dice.randrange(UNWINDING_SECONDS))
            for _ in self._script(plan):
                self._now += timedelta(seconds=1)
        return self.store.take_outbox()

    def _script(self, plan: Plan) -> Iterator[None]:
        return plan.scenario.script(self.store, plan.placed, self._dice, plan.refunds)

    # -- what should come of it ----------------------------------------------------------------------------------

    def spendings(self) -> list[Grant]:
        """What customers spend of their earnings between the two acts, so that refunds find less than they ask (R7).
        Every other one spends all of it, the others half."""
        found = []
        for number, plan in enumerate(plan for plan in self.plans if plan.spends_earnings):
            earned = awarded_points(plan.placed, points_per_unit=POINTS_PER_UNIT)
            points = earned if number % 2 == 0 else earned // 2
            if plan.customer and points:
                found.append(Grant(plan.customer.id, points))
        return found

    def expectation(self, plan: Plan) -> Expected | None:
        return expect(plan.placed, plan.spent, points_per_unit=POINTS_PER_UNIT)


def share_out(orders: int, refunds: int) -> list[tuple[Scenario, int]]:
    """Which script each order plays and how many refunds it makes: `refunds` in all, every script in turn.

    An order whose script needs more refunds than are left is kept; what is over goes to the elastic ones in turn.
    """
    shared: list[tuple[Scenario, int]] = []
    left = refunds
    for index in range(orders):
        scenario = SCENARIOS[index % len(SCENARIOS)]
        if scenario.elastic and left:
            shared.append((scenario, min(scenario.refunds, left)))
        else:
            shared.append((scenario if scenario.refunds <= left else KEPT, min(scenario.refunds, left)))
        if shared[-1][0] is KEPT:
            shared[-1] = (KEPT, 0)
        left -= shared[-1][1]
    elastic = [index for index, (scenario, _) in enumerate(shared) if scenario.elastic]
    for turn in range(left if elastic else 0):
        index = elastic[turn % len(elastic)]
        shared[index] = (shared[index][0], shared[index][1] + 1)
    return shared


def _presentment(index: int, scenario: Scenario) -> Presentment:
    """Some buyers see another currency. Not where the settled money alone decides or is paid in parts: converting
    it back from the other currency may then be a cent off, by nature (S1)."""
    exact = "held back" in scenario.name or "tenders" in scenario.name
    if exact or index % 6 not in (1, 4, 5):
        return Presentment(CURRENCY, Fraction(1))
    return {1: Presentment("EUR", Fraction(23, 25)), 4: Presentment("CAD", Fraction(137, 100))}.get(
        index % 6, Presentment("JPY", Fraction(3, 2))
    )
