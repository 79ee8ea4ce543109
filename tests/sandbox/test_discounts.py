"""The pretend store's discounts: what the Admin API makes of them in Shopify's own words, and what the checkout takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.sandbox.codes import CodeRefused
from app.sandbox.records import Customer
from tests.pretend import PretendShopify, pretend_shopify

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
IN_JUNE = "2027-06-01T00:00:00Z"

FIELDS = """
  codeDiscountNode { id codeDiscount { __typename ... on DiscountCodeBasic {
    status startsAt endsAt usageLimit asyncUsageCount appliesOncePerCustomer
    codes(first: 5) { nodes { code asyncUsageCount } }
    context { __typename ... on DiscountCustomers { customers { id } } }
    customerGets { value { __typename ... on DiscountAmount { amount { amount currencyCode } }
                                      ... on DiscountPercentage { percentage } } }
    minimumRequirement { ... on DiscountMinimumSubtotal { greaterThanOrEqualToSubtotal { amount } } }
  } } }
  userErrors { field message code }
"""
CREATE = (
    "mutation Create($input: DiscountCodeBasicInput!) { discountCodeBasicCreate(basicCodeDiscount: $input) {"
    + FIELDS
    + "} }"
)
UPDATE = (
    "mutation Update($id: ID!, $input: DiscountCodeBasicInput!) {"
    " discountCodeBasicUpdate(id: $id, basicCodeDiscount: $input) {" + FIELDS + "} }"
)
ACTIVATE = "mutation Activate($id: ID!) { discountCodeActivate(id: $id) {" + FIELDS + "} }"
DEACTIVATE = "mutation Deactivate($id: ID!) { discountCodeDeactivate(id: $id) {" + FIELDS + "} }"
DELETE = (
    "mutation Delete($id: ID!) { discountCodeDelete(id: $id) { deletedCodeDiscountId userErrors { code } } }"
)
BY_CODE = (
    "query ByCode($code: String!) { codeDiscountNodeByCode(code: $code) { id codeDiscount {"
    " ... on DiscountCodeBasic { status endsAt asyncUsageCount } } } }"
)
NOBODY = "gid://shopify/DiscountCodeNode/1"


class Admin:
    """The Admin API of one store, called by an app that may write discounts."""

    def __init__(self, shopify: PretendShopify) -> None:
        self.shopify = shopify
        self.token = shopify.token_for()

    def call(self, query: str, **variables: Any) -> dict[str, Any]:
        """The payload of the query's only field."""
        answer = self.shopify.graphql(query, variables, token=self.token).json()
        assert "errors" not in answer, answer
        [found] = answer["data"].values()
        return found

    def create(self, code: str = "LOYAL-1", **more: Any) -> dict[str, Any]:
        made = self.call(CREATE, input=discount(code, **more))
        assert made["userErrors"] == []
        return made["codeDiscountNode"]


def discount(code: str | None, **more: Any) -> dict[str, Any]:
    usual = {
        "title": "a reward",
        "startsAt": "2026-11-01T00:00:00Z",
        "context": {"all": "ALL"},
        "customerGets": {
            "items": {"all": True},
            "value": {"discountAmount": {"amount": "5.00", "appliesOnEachItem": False}},
        },
    }
    return {**usual, **({} if code is None else {"code": code}), **more}


@pytest.fixture
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify("lamps.myshopify.com") as found:
        found.clock.set(NOON)
        yield found


@pytest.fixture
def admin(shopify: PretendShopify) -> Admin:
    return Admin(shopify)


# -- what the Admin API says -----------------------------------------------------------------------------------------


def test_a_discount_is_as_it_was_asked_for(admin: Admin) -> None:
    made = admin.create(
        endsAt=IN_JUNE,
        usageLimit=1,
        appliesOncePerCustomer=True,
        context={"customers": {"add": ["gid://shopify/Customer/77"]}},
        minimumRequirement={"subtotal": {"greaterThanOrEqualToSubtotal": "20.00"}},
    )
    assert made["codeDiscount"] == {
        "__typename": "DiscountCodeBasic",
        "status": "ACTIVE",
        "startsAt": "2026-11-01T00:00:00Z",
        "endsAt": IN_JUNE,
        "usageLimit": 1,
        "asyncUsageCount": 0,
        "appliesOncePerCustomer": True,
        "codes": {"nodes": [{"code": "LOYAL-1", "asyncUsageCount": 0}]},
        "context": {"__typename": "DiscountCustomers", "customers": [{"id": "gid://shopify/Customer/77"}]},
        "customerGets": {
            "value": {"__typename": "DiscountAmount", "amount": {"amount": "5.0", "currencyCode": "USD"}}
        },
        "minimumRequirement": {"greaterThanOrEqualToSubtotal": {"amount": "20.0"}},
    }


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        pytest.param(
            discount("loyal-0"),
            ("code", "TAKEN", "Code must be unique. Please try a different code."),
            id="taken, in another case",
        ),
        pytest.param(discount(None), ("code", "BLANK", "Code can't be blank"), id="no code"),
        pytest.param(
            discount(""), ("code", "TOO_SHORT", "Code is too short (minimum is 1 character)"), id="empty code"
        ),
        pytest.param(
            discount("A\nB"), ("code", "INVALID", "Code cannot contain newline characters."), id="two lines"
        ),
        pytest.param(
            discount("A" * 256),
            ("code", "TOO_LONG", "Code is too long (maximum is 255 characters)"),
            id="long",
        ),
        pytest.param(
            discount("B", usageLimit=0),
            ("usageLimit", "GREATER_THAN", "Usage limit must be greater than 0"),
            id="for nobody",
        ),
    ],
)
def test_what_cannot_be_is_said_in_shopifys_words(
    admin: Admin, asked: dict[str, Any], error: tuple[str, str, str]
) -> None:
    admin.create("LOYAL-0")
    made = admin.call(CREATE, input=asked)
    assert made["codeDiscountNode"] is None
    field, code, message = error
    assert made["userErrors"] == [{"field": ["basicCodeDiscount", field], "code": code, "message": message}]


def test_a_discount_that_is_not_there_is_missed_in_three_ways(admin: Admin) -> None:
    missing = {"field": ["id"], "message": "Code discount does not exist.", "code": "INVALID"}
    assert admin.call(ACTIVATE, id=NOBODY)["userErrors"] == [missing]
    assert admin.call(DEACTIVATE, id=NOBODY)["userErrors"] == [missing]
    assert admin.call(DELETE, id=NOBODY)["userErrors"] == [{"code": "INVALID"}]
    updated = admin.call(UPDATE, id=NOBODY, input={"usageLimit": 2})["userErrors"]
    assert updated == [{"field": ["id"], "message": "Discount does not exist", "code": None}]


def test_an_update_sets_what_is_given_and_leaves_the_rest(admin: Admin) -> None:
    made = admin.create(endsAt=IN_JUNE, usageLimit=1)
    changed = admin.call(UPDATE, id=made["id"], input={"usageLimit": 2})["codeDiscountNode"]["codeDiscount"]
    assert (changed["usageLimit"], changed["endsAt"]) == (2, IN_JUNE)
    assert changed["customerGets"] == made["codeDiscount"]["customerGets"]
    wiped = admin.call(UPDATE, id=made["id"], input={"endsAt": None, "usageLimit": None})
    assert wiped["codeDiscountNode"]["codeDiscount"]["endsAt"] is None
    assert wiped["codeDiscountNode"]["codeDiscount"]["usageLimit"] is None


def test_deactivating_ends_it_now_and_activating_forgets_the_end(admin: Admin) -> None:
    made = admin.create(endsAt=IN_JUNE)
    ended = admin.call(DEACTIVATE, id=made["id"])["codeDiscountNode"]["codeDiscount"]
    assert (ended["status"], ended["endsAt"]) == ("EXPIRED", "2026-11-21T12:00:00Z")
    revived = admin.call(ACTIVATE, id=made["id"])["codeDiscountNode"]["codeDiscount"]
    assert (revived["status"], revived["endsAt"]) == ("ACTIVE", None)
    again = admin.call(UPDATE, id=made["id"], input={"endsAt": IN_JUNE})["codeDiscountNode"]["codeDiscount"]
    assert (again["status"], again["endsAt"]) == ("ACTIVE", IN_JUNE)


def test_what_is_ended_stays_ended_when_it_is_ended_again(admin: Admin) -> None:
    made = admin.create()
    first = admin.call(DEACTIVATE, id=made["id"])["codeDiscountNode"]["codeDiscount"]
    admin.shopify.clock.advance(hours=1)
    admin.token = admin.shopify.token_for()
    assert admin.call(DEACTIVATE, id=made["id"])["codeDiscountNode"]["codeDiscount"] == first


def test_a_scheduled_discount_that_is_ended_began_when_it_ended(admin: Admin) -> None:
    made = admin.create(startsAt="2030-01-01T00:00:00Z")
    assert made["codeDiscount"]["status"] == "SCHEDULED"
    ended = admin.call(DEACTIVATE, id=made["id"])["codeDiscountNode"]["codeDiscount"]
    assert ended["startsAt"] == ended["endsAt"] == "2026-11-21T12:00:00Z"


def test_the_status_follows_from_the_window_and_not_from_usage(admin: Admin) -> None:
    admin.create(usageLimit=1, endsAt="2026-11-21T13:00:00Z")
    admin.shopify.buy("LOYAL-1")
    assert admin.call(BY_CODE, code="loyal-1")["codeDiscount"]["status"] == "ACTIVE"
    admin.shopify.clock.advance(hours=1)
    admin.token = admin.shopify.token_for()
    assert admin.call(BY_CODE, code="loyal-1")["codeDiscount"]["status"] == "EXPIRED"


def test_a_deleted_discount_is_gone_with_its_code(admin: Admin) -> None:
    made = admin.create()
    assert admin.call(DELETE, id=made["id"])["deletedCodeDiscountId"] == made["id"]
    answer = admin.shopify.graphql(BY_CODE, {"code": "LOYAL-1"}, token=admin.token).json()
    assert answer["data"] == {"codeDiscountNodeByCode": None}
    admin.create()


def test_the_code_of_a_bulk_discount_cannot_be_changed(admin: Admin) -> None:
    made = admin.create()
    codes = admin.shopify.store.codes
    codes.add_codes(codes.discounts[int(made["id"].rpartition("/")[2])], ["LOYAL-2", "LOYAL-3"])
    found = admin.call(UPDATE, id=made["id"], input={"code": "OTHER"})
    message = "Cannot update the code of a bulk discount."
    assert found["userErrors"] == [{"field": ["id"], "message": message, "code": None}]
    assert admin.call(UPDATE, id=made["id"], input={"usageLimit": 4})["userErrors"] == []


def test_updating_another_kind_as_basic_makes_it_basic(admin: Admin) -> None:
    made = admin.shopify.store.codes.create("gift", ["GIFT"], kind="DiscountCodeBxgy")
    id = f"gid://shopify/DiscountCodeNode/{made.id}"
    changed = admin.call(UPDATE, id=id, input={"usageLimit": 2})
    assert changed["codeDiscountNode"]["codeDiscount"]["__typename"] == "DiscountCodeBasic"


def test_usage_is_shown_late(admin: Admin) -> None:
    admin.create()
    admin.shopify.store.codes.lag = timedelta(minutes=10)
    admin.shopify.buy("LOYAL-1")
    assert admin.call(BY_CODE, code="LOYAL-1")["codeDiscount"]["asyncUsageCount"] == 0
    admin.shopify.clock.advance(minutes=10)
    assert admin.call(BY_CODE, code="LOYAL-1")["codeDiscount"]["asyncUsageCount"] == 1


# -- what the checkout takes -----------------------------------------------------------------------------------------


def test_the_checkout_takes_what_the_discount_is_worth(admin: Admin) -> None:
    admin.create("AMOUNT")
    gets = {"items": {"all": True}, "value": {"percentage": 0.1}}
    admin.create("PERCENT", customerGets=gets)
    order = admin.shopify.buy("amount", price_minor=5000, quantity=2, amount_minor=99999)
    assert order.subtotal_minor == 9500
    assert admin.shopify.buy("PERCENT", price_minor=5000, quantity=2).subtotal_minor == 9000


def test_a_code_is_used_up_truly_at_once_and_open_again_at_a_higher_limit(admin: Admin) -> None:
    made = admin.create(usageLimit=1)
    admin.shopify.store.codes.lag = timedelta(days=1)
    admin.shopify.buy("LOYAL-1")
    with pytest.raises(CodeRefused, match="used 1 times, of 1"):
        admin.shopify.buy("LOYAL-1")
    admin.call(UPDATE, id=made["id"], input={"usageLimit": 2})
    admin.shopify.buy("LOYAL-1")
    with pytest.raises(CodeRefused):
        admin.shopify.buy("LOYAL-1")


def test_a_refund_gives_no_use_back(admin: Admin) -> None:
    admin.create(usageLimit=1)
    order = admin.shopify.buy("LOYAL-1")
    admin.shopify.store.cancel(order, with_refund=True)
    with pytest.raises(CodeRefused):
        admin.shopify.buy("LOYAL-1")


def test_once_per_customer_is_for_all_codes_of_a_discount(admin: Admin) -> None:
    ada, bela = (admin.shopify.customer() for _ in range(2))
    made = admin.create(appliesOncePerCustomer=True)
    codes = admin.shopify.store.codes
    codes.add_codes(codes.discounts[int(made["id"].rpartition("/")[2])], ["LOYAL-2"])
    admin.shopify.buy("LOYAL-1", customer=ada)
    with pytest.raises(CodeRefused, match="has used it already"):
        admin.shopify.buy("LOYAL-2", customer=ada)
    admin.shopify.buy("LOYAL-2", customer=bela)


def test_the_limit_counts_for_each_code_by_itself(admin: Admin) -> None:
    made = admin.create(usageLimit=1)
    codes = admin.shopify.store.codes
    codes.add_codes(codes.discounts[int(made["id"].rpartition("/")[2])], ["LOYAL-2"])
    admin.shopify.buy("LOYAL-1")
    admin.shopify.buy("LOYAL-2")


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        pytest.param({"startsAt": "2030-01-01T00:00:00Z"}, "scheduled", id="not begun"),
        pytest.param({"endsAt": "2026-11-20T00:00:00Z"}, "expired", id="over"),
        pytest.param(
            {"context": {"customers": {"add": ["gid://shopify/Customer/1"]}}},
            "another customer",
            id="not his",
        ),
        pytest.param(
            {"minimumRequirement": {"subtotal": {"greaterThanOrEqualToSubtotal": "900.00"}}},
            "too small",
            id="a small basket",
        ),
    ],
)
def test_a_code_that_cannot_be_used_places_nothing(admin: Admin, terms: dict[str, Any], why: str) -> None:
    admin.create(**terms)
    with pytest.raises(CodeRefused, match=why):
        admin.shopify.buy("LOYAL-1", customer=admin.shopify.customer())
    assert admin.shopify.store.orders == {}


def test_codes_that_no_discount_has_are_taken_at_their_word_unless_the_store_is_strict(
    shopify: PretendShopify,
) -> None:
    assert shopify.buy("ANY", amount_minor=700).items[0].allocations == {0: 700}
    shopify.store.codes.strict = True
    with pytest.raises(CodeRefused, match="no such code"):
        shopify.buy("ANY")


def test_free_shipping_takes_the_shipping_and_nothing_else(admin: Admin) -> None:
    create = (
        "mutation Free($input: DiscountCodeFreeShippingInput!) {"
        " discountCodeFreeShippingCreate(freeShippingCodeDiscount: $input) {"
        " codeDiscountNode { codeDiscount { __typename } } userErrors { code } } }"
    )
    asked = {
        "title": "post",
        "code": "POST",
        "startsAt": "2026-11-01T00:00:00Z",
        "destination": {"all": True},
    }
    made = admin.call(create, input={**asked, "context": {"all": "ALL"}})
    assert made["codeDiscountNode"]["codeDiscount"]["__typename"] == "DiscountCodeFreeShipping"
    order = admin.shopify.buy("POST", shipping_minor=900)
    assert order.total_minor == order.subtotal_minor == sum(item.gross_minor for item in order.items)
    assert order.shipping_off_minor == 900


def test_a_customer_may_be_named_and_taken_out_again(admin: Admin) -> None:
    ada: Customer = admin.shopify.customer()
    gid = f"gid://shopify/Customer/{ada.id}"
    made = admin.create(context={"customers": {"add": [gid]}})
    admin.shopify.buy("LOYAL-1", customer=ada)
    admin.call(UPDATE, id=made["id"], input={"context": {"customers": {"remove": [gid]}}})
    with pytest.raises(CodeRefused):
        admin.shopify.buy("LOYAL-1", customer=ada)
