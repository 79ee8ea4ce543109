"""The variables that our code sends, against the true Admin schema."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLSchema,
    get_named_type,
    parse,
    type_from_ast,
)
from graphql.execution.values import get_variable_values

import tasks
from models.rules.codes import (
    AMOUNT,
    BASIC,
    FREE_SHIPPING,
    PERCENTAGE,
    SHIPPING,
    Benefit,
    DiscountState,
    PutBackEnd,
    SetUsageLimit,
    Terms,
)
from tasks.gateway.client import Call, Gateway
from tasks.gateway.documents import document, names
from tasks.steps import discounts, reads, subscriptions
from tasks.steps.load import ShopRow
from tasks.steps.points import finding
from tests.contract.conftest import AdminSchema
from tests.contract.test_documents import operation_of

SHOP = ShopRow(7, "contract-tests.myshopify.com", "EUR")
NOW = datetime(2026, 11, 2, 9, 30, 15, 500_000, UTC)
CODE_FILES = sorted(Path(tasks.__file__).parent.rglob("*.py"))


class Sent(Exception):
    """Ends a call of ours once what it sends was seen."""


class Watching:
    """A gateway that holds what is sent against the schema; it ends the call where it has no answer to give."""

    def __init__(self, admin: AdminSchema, **answers: dict[str, Any]) -> None:
        self.schema, self.answers, self.seen = admin.schema, answers, list[str]()

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        call = Call(shop, document(document_name), variables, background)
        check(self.schema, document_name, json.loads(call.body)["variables"])
        self.seen.append(document_name)
        if document_name not in self.answers:
            raise Sent
        return self.answers[document_name]


def check(schema: GraphQLSchema, name: str, variables: dict[str, Any]) -> None:
    definitions = operation_of(parse(document(name).text)).variable_definitions or ()
    known = {definition.variable.name.value: definition for definition in definitions}
    assert set(variables) <= set(known)
    assert not isinstance(found := get_variable_values(schema, definitions, variables), list), found
    for key, value in variables.items():
        type_ = type_from_ast(schema, known[key].type)
        assert list(deprecated_in(type_, value)) == []


def deprecated_in(type_: Any, value: Any) -> Iterator[str]:
    """Deprecated input fields and enum values that are used in a value."""
    named = get_named_type(type_)
    if isinstance(value, list):
        for each in value:
            yield from deprecated_in(named, each)
    elif isinstance(named, GraphQLInputObjectType) and isinstance(value, dict):
        for key, inner in value.items():
            if named.fields[key].deprecation_reason:
                yield f"{named.name}.{key}"
            yield from deprecated_in(named.fields[key].type, inner)
    elif isinstance(named, GraphQLEnumType) and value is not None and named.values[value].deprecation_reason:
        yield f"{named.name}.{value}"


def terms(benefit: Benefit, **more: Any) -> Terms:
    given = {"minimum_subtotal": None, "minimum_quantity": None, "shipping_up_to": None}
    return Terms(benefit=benefit, combines_with=(True, False, True), **{**given, **more})


def new(of: Terms) -> discounts.New:
    return discounts.New(
        code="UNWIND-1",
        title="Ten off",
        redemption_id=5,
        n=1,
        customer_id=9,
        starts_at=NOW,
        ends_at=NOW,
        terms=of,
    )


MADE = {
    "an amount off": terms(Benefit(kind=AMOUNT, value="10.00")),
    "a percentage off": terms(Benefit(kind=PERCENTAGE, value="0.1"), minimum_subtotal="50.00"),
    "free shipping": terms(Benefit(kind=SHIPPING), minimum_quantity="2", shipping_up_to="12.50"),
}


@pytest.mark.parametrize("what", MADE.values(), ids=MADE.keys())
def test_a_discount_is_made_with_fields_that_are_there(admin, what):
    with pytest.raises(Sent):
        discounts.create(Watching(admin), SHOP, new(what))


STATE = {kind: DiscountState(id=1, kind=kind, starts_at=NOW) for kind in (BASIC, FREE_SHIPPING)}
ONE_MORE = SetUsageLimit(usage_limit=2, ends_at=NOW, add_customer=True)

CALLS: dict[str, Callable[[Gateway], object]] = {
    "a discount by its code": lambda gateway: discounts.by_code(gateway, SHOP, "UNWIND-1"),
    "a discount by its id": lambda gateway: discounts.by_id(gateway, SHOP, 1),
    "a discount with one more use": lambda gateway: discounts.update(
        gateway, SHOP, STATE[BASIC], ONE_MORE, 9
    ),
    "free shipping with one more use": lambda gateway: discounts.update(
        gateway, SHOP, STATE[FREE_SHIPPING], ONE_MORE, 9
    ),
    "a discount with its end put back": lambda gateway: discounts.update(
        gateway, SHOP, STATE[BASIC], PutBackEnd(ends_at=None), 9
    ),
    "the scopes granted": lambda gateway: subscriptions.granted_scopes(gateway, SHOP),
    "an order read": lambda gateway: reads.fetch(gateway, SHOP, 1),
    "a discount taken away": lambda gateway: discounts.delete(gateway, SHOP, 1),
    "a discount ended": lambda gateway: discounts.deactivate(gateway, SHOP, 1),
    "a customer by an address": lambda gateway: finding.at_shopify(
        gateway, SHOP, "EMAIL", "ada@shop.example"
    ),
    "a customer by a number": lambda gateway: finding.at_shopify(gateway, SHOP, "PHONE", "4930123456"),
    "the subscriptions listed": lambda gateway: list(subscriptions.listed(gateway, SHOP)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_what_is_asked_fits_its_document(admin, call):
    with pytest.raises(Sent):
        call(Watching(admin))


WRONG = {
    "id": "gid://shopify/WebhookSubscription/1",
    "topic": "ORDERS_CREATE",
    "uri": "https://here.example/webhooks",
    "format": "XML",
    "filter": "",
    "includeFields": [],
    "metafieldNamespaces": [],
}


@pytest.mark.parametrize(
    ("found", "sent"),
    [
        pytest.param([], "webhook_subscription_create", id="made"),
        pytest.param([WRONG], "webhook_subscription_update", id="set right"),
        pytest.param([WRONG, {**WRONG, "format": "JSON"}], "webhook_subscription_delete", id="taken away"),
    ],
)
def test_a_subscription_is_repaired_with_fields_that_are_there(admin, found, sent):
    page = {"nodes": found, "pageInfo": {"endCursor": None, "hasNextPage": False}}
    gateway = Watching(admin, webhook_subscriptions={"webhookSubscriptions": page})
    with pytest.raises(Sent):
        subscriptions.repair(gateway, SHOP, WRONG["uri"], ["orders/create"])
    assert gateway.seen[-1] == sent


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        pytest.param("discount_create", {"discount": {"customerSelection": {"all": True}}}, id="deprecated"),
        pytest.param("discount_create", {"discount": {"nosuch": 1}}, id="unknown field"),
        pytest.param("discount_create", {"discount": {}, "more": 1}, id="unknown variable"),
        pytest.param("discount_create", {}, id="missing variable"),
    ],
)
def test_variables_that_do_not_fit_would_be_found(admin, name, variables):
    with pytest.raises(AssertionError):
        check(admin.schema, name, variables)


def calls_of(path: Path) -> Iterator[tuple[str, set[str]]]:
    """(document, names of variables) of every `run(shop, "document", {...})` in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run":
            match node.args:
                case [_, ast.Constant(value=str(name)), ast.Dict(keys=keys)] if all(
                    isinstance(key, ast.Constant) for key in keys
                ):
                    yield name, {key.value for key in keys if isinstance(key, ast.Constant)}


def test_variables_written_where_a_document_is_sent_are_the_names():
    found = [call for path in CODE_FILES for call in calls_of(path)]
    assert len(found) > 3
    for name, given in found:
        definitions = operation_of(parse(document(name).text)).variable_definitions or ()
        assert given <= {definition.variable.name.value for definition in definitions}, name


def inputs_of(schema: GraphQLSchema) -> set[GraphQLInputObjectType]:
    """Every input object that our documents can be given."""
    found: set[GraphQLInputObjectType] = set()

    def collect(type_: GraphQLInputType) -> None:
        named = get_named_type(type_)
        if isinstance(named, GraphQLInputObjectType) and named not in found:
            found.add(named)
            for field in named.fields.values():
                collect(field.type)

    for name in names():
        for definition in operation_of(parse(document(name).text)).variable_definitions or ():
            collect(type_from_ast(schema, definition.type))
    return found


def test_no_key_of_ours_is_the_name_of_a_deprecated_input_field(admin):
    """Also where variables are put together in many steps: the name must not occur as a key at all."""
    fields = [(name, field) for of in inputs_of(admin.schema) for name, field in of.fields.items()]
    deprecated = {name for name, field in fields if field.deprecation_reason}
    deprecated -= {name for name, field in fields if not field.deprecation_reason}
    assert "customerSelection" in deprecated
    for path in CODE_FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                assert not keys & deprecated, f"{path.name}:{node.lineno}"


def test_kinds_of_discounts_are_types_of_the_schema(admin):
    assert all(
        admin.schema.get_type(name) is not None for name in (BASIC, *discounts.CREATE, *discounts.UPDATE)
    )
