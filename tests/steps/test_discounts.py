"""What Shopify says of a discount, as it says it, and what is sent to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from models.errors import ShopifyRefused, ShopifyUnreachable, UserError
from models.rules.codes import AMOUNT, PERCENTAGE, SHIPPING, Benefit, DiscountState, Terms
from tasks.steps.discounts import New, is_gone, new_input, read_state

AT = datetime(2026, 7, 5, 23, 29, 21, tzinfo=UTC)
GID = "gid://shopify/DiscountCodeNode/1700000000001"
COMBINES = {"orderDiscounts": True, "productDiscounts": False, "shippingDiscounts": False}


def told(kind: str = "DiscountCodeBasic", **changed: Any) -> dict[str, Any]:
    """A discount with one code, in the shape of recorded answers."""
    usual: dict[str, Any] = {
        "__typename": kind,
        "status": "ACTIVE",
        "startsAt": "2026-07-05T23:29:21Z",
        "endsAt": None,
        "usageLimit": 100,
        "asyncUsageCount": 0,
        "appliesOncePerCustomer": True,
        "codesCount": {"count": 1},
    }
    terms = {
        "tags": [],
        "context": {"__typename": "DiscountBuyerSelectionAll"},
        "combinesWith": COMBINES,
        "minimumRequirement": None,
    }
    basic = {
        "customerGets": {
            "items": {"__typename": "AllDiscountItems"},
            "value": {
                "__typename": "DiscountAmount",
                "amount": {"amount": "5.0"},
                "appliesOnEachItem": False,
            },
        }
    }
    shipping = {"destinationSelection": {"__typename": "DiscountCountryAll"}, "maximumShippingPrice": None}
    more = {
        "DiscountCodeBasic": {**terms, **basic},
        "DiscountCodeFreeShipping": {**terms, **shipping},
    }.get(kind, {})
    return {"id": GID, "codeDiscount": {**usual, **more, **changed}}


def gets(value: dict[str, Any], items: str = "AllDiscountItems") -> dict[str, Any]:
    return {"items": {"__typename": items}, "value": value}


def state(**changed: Any) -> DiscountState:
    terms = Terms(benefit=Benefit(kind=AMOUNT, value="5.0"), combines_with=(True, False, False))
    usual: dict[str, Any] = {"kind": "DiscountCodeBasic", "starts_at": AT, "usage_limit": 100, "terms": terms}
    return DiscountState(**({"id": 1_700_000_000_001, "once_per_customer": True} | usual | changed))


PERCENT = {"__typename": "DiscountPercentage", "percentage": 0.1}


@pytest.mark.parametrize(
    ("node", "read"),
    [
        pytest.param(None, None, id="no such discount"),
        pytest.param(told(), state(), id="amount off"),
        pytest.param(
            told(customerGets=gets(PERCENT)),
            state(
                terms=Terms(benefit=Benefit(kind=PERCENTAGE, value="0.1"), combines_with=(True, False, False))
            ),
            id="percentage",
        ),
        pytest.param(
            told(customerGets=gets(PERCENT, items="DiscountProducts")), state(terms=None), id="some products"
        ),
        pytest.param(
            told(endsAt="2026-07-05T23:31:34Z", status="EXPIRED", usageLimit=None),
            state(ends_at=datetime(2026, 7, 5, 23, 31, 34, tzinfo=UTC), usage_limit=None),
            id="ended",
        ),
        pytest.param(
            told(
                context={
                    "__typename": "DiscountCustomers",
                    "customers": [{"id": "gid://shopify/Customer/12"}],
                }
            ),
            state(customers=frozenset([12])),
            id="for a customer",
        ),
        pytest.param(
            told(context={"__typename": "DiscountCustomerSegments"}), state(), id="for a segment of customers"
        ),
        pytest.param(
            told(
                minimumRequirement={
                    "__typename": "DiscountMinimumSubtotal",
                    "greaterThanOrEqualToSubtotal": {"amount": "50.0"},
                }
            ),
            state(
                terms=Terms(
                    benefit=Benefit(kind=AMOUNT, value="5.0"),
                    minimum_subtotal="50.0",
                    combines_with=(True, False, False),
                )
            ),
            id="minimum subtotal",
        ),
        pytest.param(
            told(
                minimumRequirement={
                    "__typename": "DiscountMinimumQuantity",
                    "greaterThanOrEqualToQuantity": "3",
                }
            ),
            state(
                terms=Terms(
                    benefit=Benefit(kind=AMOUNT, value="5.0"),
                    minimum_quantity="3",
                    combines_with=(True, False, False),
                )
            ),
            id="minimum quantity",
        ),
        pytest.param(
            told(codesCount={"count": 3}, tags=["unwind", "unwind-1-0"]),
            state(codes=3, tags=frozenset(["unwind", "unwind-1-0"])),
            id="three codes, marked",
        ),
        pytest.param(told(codesCount=None), state(), id="codes not counted"),
        pytest.param(
            told("DiscountCodeFreeShipping"),
            state(
                kind="DiscountCodeFreeShipping",
                terms=Terms(benefit=Benefit(kind=SHIPPING), combines_with=(True, False, False)),
            ),
            id="free shipping",
        ),
        pytest.param(
            told("DiscountCodeFreeShipping", destinationSelection={"__typename": "DiscountCountries"}),
            state(kind="DiscountCodeFreeShipping", terms=None),
            id="free shipping to some countries",
        ),
        pytest.param(told("DiscountCodeBxgy"), state(kind="DiscountCodeBxgy", terms=None), id="buy X get Y"),
        pytest.param(told("DiscountCodeApp"), state(kind="DiscountCodeApp", terms=None), id="an app's"),
    ],
)
def test_a_discount_is_understood(node: Any, read: DiscountState | None) -> None:
    assert read_state(node) == read


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"startsAt": "yesterday"}, id="no time"),
        pytest.param({"startsAt": "2026-07-05T23:29:21"}, id="no time zone"),
        pytest.param({"usageLimit": "many"}, id="no number"),
        pytest.param({"customerGets": None}, id="no value"),
        pytest.param({"combinesWith": {}}, id="no classes"),
    ],
)
def test_a_discount_that_is_not_understood_is_asked_for_again(changed: dict[str, Any]) -> None:
    with pytest.raises(ShopifyUnreachable, match="cannot be read"):
        read_state(told(**changed))


def new(terms: Terms, *, ends_at: datetime | None = None) -> New:
    return New(
        code="K7Q2",
        title="$5 off" * 100,
        redemption_id=7,
        n=1,
        customer_id=12,
        starts_at=AT.replace(microsecond=987_654),
        ends_at=ends_at,
        terms=terms,
    )


def test_a_new_discount_is_for_one_customer_and_one_use() -> None:
    sent = new_input(new(Terms(benefit=Benefit(kind=AMOUNT, value="5.00"), minimum_subtotal="20.00")))
    assert sent == {
        "title": ("$5 off" * 100)[:255],
        "code": "K7Q2",
        "tags": ["unwind", "unwind-7-1"],
        "startsAt": "2026-07-05T23:29:21Z",
        "endsAt": None,
        "usageLimit": 1,
        "appliesOncePerCustomer": False,
        "context": {"customers": {"add": ["gid://shopify/Customer/12"]}},
        "combinesWith": {"orderDiscounts": False, "productDiscounts": False, "shippingDiscounts": False},
        "minimumRequirement": {"subtotal": {"greaterThanOrEqualToSubtotal": "20.00"}},
        "customerGets": {
            "value": {"discountAmount": {"amount": "5.00", "appliesOnEachItem": False}},
            "items": {"all": True},
        },
    }


def test_free_shipping_has_a_destination_and_no_items() -> None:
    sent = new_input(new(Terms(benefit=Benefit(kind=SHIPPING), shipping_up_to="9.00"), ends_at=AT))
    assert (sent["destination"], sent["maximumShippingPrice"]) == ({"all": True}, "9.00")
    assert "customerGets" not in sent
    assert sent["endsAt"] == "2026-07-05T23:29:21Z"


@pytest.mark.parametrize(
    ("message", "gone"),
    [
        pytest.param("Code discount does not exist.", True, id="activate, deactivate, delete"),
        pytest.param("Discount does not exist", True, id="update"),
        pytest.param("Cannot update the code of a bulk discount.", False, id="a bulk discount"),
    ],
)
def test_a_discount_that_is_not_there_is_told_apart_by_its_words(message: str, gone: bool) -> None:
    error = ShopifyRefused("discountCodeDelete", [UserError(None, ("id",), message)])
    assert is_gone(error) is gone
