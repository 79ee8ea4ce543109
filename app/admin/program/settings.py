"""What the settings of a program are called, and what a change of each does. `{unit}` and `{version}` are filled in.

Every setting of `GET /program` stands here once: forms, the review of a change and the history are made of this list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.rules.program import REWARD_KINDS

YES_NO, CHOICE, WHOLE, NUMBER, TEXT = "yes_no", "choice", "whole", "number", "text"

ON_REFUND = (
    "Earlier refunds stay as the version of their own time judged them, also when Shopify tells of them late."
)
ON_ORDER = "For orders paid from now on. What was earned before keeps the dates and amounts it has."
ON_TIERS = "Every customer's tier is worked out again within a few minutes."
ON_REWARDS = "For redemptions from now on. Earlier ones come back by what they cost then."


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting. path: in `GET /program`, or in its row; also the name of its form field.

    empty: what an empty field means; None: it has to hold something. effect: of any change; effects: of a change to
    this value.
    """

    path: str
    label: str
    kind: str
    help: str = ""
    choices: Sequence[tuple[str, str]] = ()
    empty: str | None = None
    effect: str = ""
    effects: Mapping[object, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Settings that stand in one card."""

    title: str
    what: str
    settings: Sequence[Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A list of settings that grows and shrinks. item: what one is called."""

    path: str
    item: str
    settings: Sequence[Setting]
    added: str
    removed: str
    none: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One page of settings."""

    name: str
    title: str
    what: str
    groups: Sequence[Group] = ()
    rows: Rows | None = None

    @property
    def settings(self) -> Sequence[Setting]:
        return [setting for group in self.groups for setting in group.settings]


def status(name: str, label: str, what: str) -> Setting:
    return Setting(
        path=f"reverse_earned.{name}",
        label=label,
        kind=YES_NO,
        effect=ON_REFUND,
        effects={
            True: f"From now on, {what} takes back what its order earned.",
            False: f"From now on, {what} takes back nothing of what its order earned.",
        },
    )


CANCELATIONS = Group(
    title="{Unit} cancelations",
    what="Take back the {unit} that an order earned when it becomes:",
    settings=(
        status("refunded", "Refunded", "the refund that makes an order fully refunded"),
        status("partially_refunded", "Partially refunded", "a partial refund"),
        status("voided", "Voided", "a void"),
        status("cancelled", "Cancelled", "a cancellation"),
        Setting(
            path="reverse_earned.rounding",
            label="Rounding of partial refunds",
            kind=CHOICE,
            choices=(
                ("per_refund", "Round down each refund"),
                ("cumulative", "Round down the sum of an order's refunds"),
            ),
            help="617 {unit} on 123.45, refunded as 50, 50 and 23.45: 249, 249 and 119 are taken back,"
            " or 249, 250 and 118. The last refund takes the rest either way.",
            effect=ON_REFUND,
        ),
        Setting(
            path="reverse_earned.items_without_money",
            label="Count items that came back without money",
            kind=YES_NO,
            help="Otherwise a refund counts by the money that was given back.",
            effect=ON_REFUND,
        ),
    ),
)
REFUNDS = Group(
    title="{Unit} refunds",
    what="What happens to a reward that a customer used on an order. This is separate from {unit} cancelations: it works"
    " for every status, and where nothing was earned. Gift cards are not returned.",
    settings=(
        Setting(
            path="return_redeemed.enabled",
            label="Refund redeemed rewards on order cancellation",
            kind=YES_NO,
            help="When an order is refunded, partially refunded or voided, the {unit} spent on it come back: all that is"
            " left for a full refund or a void, in proportion to the discounted items for a partial one.",
            effect="This is not retroactive: nothing comes back for refunds that happened before.",
            effects={
                True: "From now on, {unit} spent on an order come back when it is refunded, partially refunded or voided.",
                False: "From now on, refunds return no redeemed {unit}. What has come back stays.",
            },
        ),
        Setting(
            path="return_redeemed.expired_grace_days",
            label="Days of grace for {unit} that have expired meanwhile",
            kind=WHOLE,
            help="Returned {unit} keep their old expiry date. Those that have expired come back only within so many days"
            " after it, and expire again at the end of these days.",
            effect=ON_REFUND,
        ),
    ),
)
BELOW = Group(
    title="When the balance is not enough",
    what="A balance never goes below zero.",
    settings=(
        Setting(
            path="below_zero",
            label="{Unit} that were spent before they are taken back",
            kind=CHOICE,
            choices=(("forgive", "Forgive them"), ("carry_debt", "Carry them as debt")),
            help="Debt is paid off by what the customer earns later, and shown beside the balance.",
            effect=ON_REFUND,
            effects={
                "forgive": "From now on, what a balance cannot cover is forgiven. Debt that stands is still paid off.",
                "carry_debt": "From now on, what a balance cannot cover is owed, and later {unit} pay it off first.",
            },
        ),
        Setting(
            path="cancelled_paid",
            label="A paid order is cancelled without a refund",
            kind=CHOICE,
            choices=(
                ("wait", "Wait for its refund, and show it under Needs attention"),
                ("close", "Treat it as closed at once"),
            ),
            effect="For orders cancelled from now on.",
            effects={"close": "Such a cancellation takes back what the order earned, without waiting."},
        ),
    ),
)
WAITING = Group(
    title="When {unit} can be spent",
    what="Counted from the payment of the order.",
    settings=(
        Setting(
            path="waiting_days",
            label="Waiting days",
            kind=WHOLE,
            help="{Unit} are pending for so many days. A refund in that time reduces them before they reach the balance.",
            effect=ON_ORDER,
        ),
        Setting(
            path="expiry_days",
            label="Days until {unit} expire",
            kind=WHOLE,
            empty="never",
            help="Counted from the end of the waiting days. Leave it empty if they never expire.",
            effect=ON_ORDER,
        ),
        Setting(
            path="include_test_orders",
            label="Include test orders",
            kind=YES_NO,
            effect="For test orders paid from now on.",
            effects={
                True: "Test orders earn as others do.",
                False: "Test orders are recorded and earn nothing.",
            },
        ),
    ),
)
BY_HAND = Group(
    title="Redeemed {unit} given back by hand",
    what="“Give back a part” on a redemption's page, and your own systems by the API's call points/reverse.",
    settings=(
        Setting(
            path="points_reversal.enabled",
            label="Redeemed {unit} may be given back by hand",
            kind=YES_NO,
            effect="For calls from now on.",
        ),
        Setting(
            path="points_reversal.limit_per_customer",
            label="How often for one customer",
            kind=WHOLE,
            empty="any number of times",
            help="Leave it empty for any number of times.",
            effect="For calls from now on; earlier ones count.",
        ),
        Setting(
            path="points_reversal.limit_days",
            label="Within so many days",
            kind=WHOLE,
            effect="For calls from now on; earlier ones count.",
        ),
    ),
)
ID = Setting(path="id", label="Id", kind=TEXT, help="For the API. Left empty, it is made of the name.")
EARNING = Rows(
    path="earning",
    item="earning rule",
    none="Orders earn nothing.",
    added="Orders paid from now on earn by this rule.",
    removed="Orders paid from now on do not earn by this rule. What was earned by it is kept, and taken back by refunds"
    " as before.",
    settings=(
        Setting(path="name", label="Name", kind=TEXT, effect="Only the name changes."),
        ID,
        Setting(
            path="per_currency_unit",
            label="{Unit} for each 1.00 of the order",
            kind=TEXT,
            empty="0",
            effect=ON_ORDER,
        ),
        Setting(path="fixed", label="{Unit} for each order", kind=NUMBER, empty="0", effect=ON_ORDER),
        Setting(
            path="mask",
            label="What counts of the order",
            kind=CHOICE,
            choices=(
                ("total", "Its total, with tax and shipping"),
                ("subtotal", "Its items after discounts, without tax and shipping"),
            ),
            effect=ON_ORDER,
        ),
        Setting(
            path="on_partial",
            label="A partial refund takes back",
            kind=CHOICE,
            choices=(
                ("proportional", "A share, by the money refunded"),
                ("only_on_full", "Nothing: only a full refund takes it back"),
            ),
            effect=ON_ORDER,
        ),
    ),
)
LEVELS = Rows(
    path="tiers.levels",
    item="level",
    none="There are no levels: no customer has a tier.",
    added=ON_TIERS,
    removed=f"Nobody has this level any more. {ON_TIERS}",
    settings=(
        Setting(path="name", label="Name", kind=TEXT, effect="Only the name changes."),
        ID,
        Setting(
            path="threshold",
            label="From",
            kind=TEXT,
            help="In the store's currency, in orders or in {unit}, as is chosen above.",
            effect=ON_TIERS,
        ),
    ),
)
KINDS = {
    "amount_discount": "Amount off",
    "percentage_discount": "Percentage off",
    "free_shipping": "Free shipping",
    "free_product": "Free product",
    "gift_card": "Gift card",
    "store_credit": "Store credit",
    "vip_entry": "VIP entry",
    "membership": "Membership",
}
REWARDS = Rows(
    path="rewards",
    item="reward",
    none="There is nothing to redeem {unit} for.",
    added="Customers can redeem it from now on.",
    removed="It can no longer be redeemed. Codes that customers hold still work, and are not reactivated; redeemed {unit}"
    " still come back, if they are to.",
    settings=(
        Setting(path="name", label="Name", kind=TEXT, effect="Only the name changes."),
        ID,
        Setting(
            path="kind",
            label="Kind",
            kind=CHOICE,
            choices=tuple((kind, KINDS[kind]) for kind in REWARD_KINDS),
            effect=ON_REWARDS,
        ),
        Setting(path="cost", label="Cost in {unit}", kind=NUMBER, effect=ON_REWARDS),
        Setting(
            path="value",
            label="Value",
            kind=TEXT,
            empty="0.00",
            help="In the store's currency, or in percent.",
            effect="For codes made from now on.",
        ),
        Setting(
            path="reactivate_code",
            label="Reactivate code",
            kind=YES_NO,
            help="When the order that used it is fully refunded, voided or cancelled, the code can be used again,"
            " instead of the {unit} coming back. After a partial refund that returned {unit}, the rest comes as {unit}.",
            effect=ON_REFUND,
            effects={
                True: "From now on, the code can be used again once its order is closed, instead of {unit} coming back.",
                False: "From now on, codes stay used. Codes that came back stay usable.",
            },
        ),
    ),
)
TIERS = Group(
    title="How tiers are reached",
    what="Refunded money is taken off at the order's own date. Partial refunds never change the number of orders.",
    settings=(
        Setting(
            path="tiers.metric",
            label="What counts",
            kind=CHOICE,
            choices=(("spend", "Money spent"), ("orders", "Number of orders"), ("points", "{Unit} earned")),
            effect=f"The levels' thresholds are read as this. {ON_TIERS}",
        ),
        Setting(
            path="tiers.window",
            label="In which time",
            kind=CHOICE,
            choices=(
                ("lifetime", "Ever"),
                ("calendar_year", "This calendar year"),
                ("rolling_year", "The last 365 days"),
            ),
            effect=ON_TIERS,
        ),
        Setting(
            path="tiers.downgrade",
            label="A customer falls below the threshold",
            kind=CHOICE,
            choices=(
                ("immediate", "The tier falls at once"),
                ("grace", "The tier falls after the days of grace"),
                ("period_end", "The tier falls at the next 1 January"),
                ("never", "The tier stays"),
            ),
            effect=f"Looked at with the whole record. {ON_TIERS}",
        ),
        Setting(
            path="tiers.grace_days",
            label="Days of grace",
            kind=WHOLE,
            help="Used only where the tier falls after them.",
            effect=ON_TIERS,
        ),
    ),
)
UNIT = Group(
    title="Unit and time zone",
    what="",
    settings=(
        Setting(
            path="unit.kind",
            label="Balances are counted in",
            kind=CHOICE,
            choices=(("points", "Points"), ("credits", "Credits")),
            effect="What customers hold keeps its number; it is called otherwise.",
        ),
        Setting(
            path="unit.scale",
            label="Decimals of a credit",
            kind=WHOLE,
            help="0 to 3; points have none. It cannot change once something is booked.",
            effect="Balances are counted in smaller or larger steps.",
        ),
        Setting(
            path="time_zone",
            label="Time zone",
            kind=TEXT,
            help="A name such as Europe/Berlin. Days and years begin by it, and these pages show times in it.",
            effect="For orders paid from now on; tiers count days by it at once.",
        ),
    ),
)
SECTIONS: Sequence[Section] = (
    Section(
        name="orders",
        title="Orders",
        what="What a refund, a cancellation or a void does, and when {unit} can be spent.",
        groups=(CANCELATIONS, REFUNDS, BELOW, WAITING, BY_HAND),
    ),
    Section(name="earning", title="Earning", what="What an order earns.", rows=EARNING),
    Section(
        name="tiers",
        title="VIP tiers",
        what="The levels that customers reach, and when they fall.",
        groups=(TIERS,),
        rows=LEVELS,
    ),
    Section(name="rewards", title="Rewards", what="What customers redeem {unit} for.", rows=REWARDS),
    Section(
        name="unit",
        title="Unit and time zone",
        what="Points or credits, and when a day begins.",
        groups=(UNIT,),
    ),
)
