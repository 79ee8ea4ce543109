"""Every GraphQL document that we send, against the true Admin schema."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLSchema,
    InlineFragmentNode,
    NoDeprecatedCustomRule,
    OperationDefinitionNode,
    OperationType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    get_named_type,
    parse,
    specified_rules,
    validate,
    visit,
)

from app.sandbox.limits import cost_of
from models.settings import Settings
from tasks.gateway.documents import FRAGMENTS, document, names, operation_name, with_fragments
from tasks.steps.reconcile import PAGE
from tests.contract.conftest import VERSION

RULES = [*specified_rules, NoDeprecatedCustomRule]
OF_A_CUSTOMER = {"id", "legacyResourceId", "__typename"}  # all that we ask for of a person
PERSONAL_TYPES = {
    "CustomerEmailAddress",
    "CustomerPhoneNumber",
    "MailingAddress",
    "OrderRiskAssessment",
    "StaffMember",
}
PERSONAL_FIELDS = {
    "email",
    "phone",
    "clientIp",
    "note",
    "customAttributes",
    "displayName",
    "firstName",
    "lastName",
}

every_document = pytest.mark.parametrize("name", names())


def wrong(schema: GraphQLSchema, text: str) -> list[str]:
    return [error.message for error in validate(schema, parse(text), RULES)]


def asked(schema: GraphQLSchema, node: DocumentNode) -> Iterator[tuple[str, str, str]]:
    """(type, field, named type of the field) of every field in a document."""
    info, found = TypeInfo(schema), []

    class Fields(Visitor):
        def enter_field(self, field: FieldNode, *_: object) -> None:
            parent, of = info.get_parent_type(), info.get_type()
            assert parent is not None and of is not None
            found.append((parent.name, field.name.value, get_named_type(of).name))

        def enter_inline_fragment(self, fragment: InlineFragmentNode, *_: object) -> None:
            if fragment.type_condition is not None:
                name = fragment.type_condition.name.value
                found.append((name, "__typename", name))

    visit(node, TypeInfoVisitor(info, Fields()))
    return iter(found)


def operation_of(node: DocumentNode) -> OperationDefinitionNode:
    (operation,) = (each for each in node.definitions if isinstance(each, OperationDefinitionNode))
    return operation


def test_the_schema_is_of_the_version_that_we_ask_for():
    assert Settings.model_fields["shopify_api_version"].default == VERSION


@every_document
def test_a_document_is_valid_and_uses_nothing_deprecated(admin, name):
    assert wrong(admin.schema, document(name).text) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("{ shop { nosuch } }", "Cannot query field", id="a field that is not there"),
        pytest.param("{ shop { orders(first: 1) { nodes { id } } } }", "deprecated", id="a deprecated field"),
        pytest.param(
            "mutation { discountCodeBasicCreate(basicCodeDiscount: {customerSelection: {all: true}}) { userErrors { field } } }",
            "deprecated",
            id="a deprecated input field",
        ),
    ],
)
def test_what_is_wrong_or_deprecated_would_be_found(admin, text, why):
    assert any(why in message for message in wrong(admin.schema, text))


@every_document
def test_a_document_is_read_as_it_is_written(name):
    operation = operation_of(parse(document(name).text))
    assert operation.name is not None
    assert operation.name.value == operation_name(name)
    assert (operation.operation is OperationType.MUTATION) == document(name).is_mutation


@every_document
def test_a_document_asks_for_nobodys_data(admin, name):
    for of, field, type_name in asked(admin.schema, parse(document(name).text)):
        assert of != "Customer" or field in OF_A_CUSTOMER, f"{of}.{field}"
        assert type_name not in PERSONAL_TYPES and field not in PERSONAL_FIELDS, f"{of}.{field}"


@every_document
def test_a_document_costs_less_than_shopify_runs_at_most(name):
    """By the pretend store's reckoning, which overstates lists within lists; at Shopify 1000 points are refused."""
    node = parse(document(name).text)
    assert cost_of(node, operation_of(node), {"first": PAGE}) < 1000


def test_what_runs_in_bulk_keeps_to_the_rules_of_bulk_operations(admin):
    """No variables, at most five connections, and none inside a list."""
    node = parse(document("bulk_orders").text)
    assert not operation_of(node).variable_definitions
    connections = [
        field for _, field, type_name in asked(admin.schema, node) if type_name.endswith("Connection")
    ]
    assert 1 <= len(connections) <= 5
    info = TypeInfo(admin.schema)
    lists: list[str] = []

    class Lists(Visitor):
        def enter_field(self, field: FieldNode, *_: object) -> None:
            of = info.get_type()
            if str(of).rstrip("!").endswith("]") and field.name.value not in {"edges", "nodes"}:
                lists.append(field.name.value)
            assert not (lists and get_named_type(of).name.endswith("Connection")), (
                f"{lists[-1]}.{field.name.value}"
            )

        def leave_field(self, field: FieldNode, *_: object) -> None:
            if lists and lists[-1] == field.name.value:
                lists.pop()

    visit(node, TypeInfoVisitor(info, Lists()))


@pytest.mark.parametrize("name", [name for name in names() if document(name).is_mutation])
def test_a_mutation_asks_for_everything_that_an_error_says(admin, name):
    """`accepted` sees only errors that were asked for."""
    operation = operation_of(parse(document(name).text))
    for payload in operation.selection_set.selections:
        assert isinstance(payload, FieldNode) and payload.selection_set is not None
        errors = [
            each
            for each in payload.selection_set.selections
            if isinstance(each, FieldNode) and each.name.value == "userErrors"
        ]
        assert len(errors) == 1 and errors[0].selection_set is not None
        said = {each.name.value for each in errors[0].selection_set.selections if isinstance(each, FieldNode)}
        of = admin.schema.mutation_type.fields[payload.name.value].type
        type_ = get_named_type(get_named_type(of).fields["userErrors"].type)
        assert said >= {"field", "message", "code"} & set(type_.fields)


def test_every_fragment_is_named_by_its_file_and_asked_for_by_some_document() -> None:
    together = "\n".join(document(name).text for name in names())
    for path in FRAGMENTS.iterdir():
        assert f"fragment {path.stem} on " in path.read_text(encoding="utf-8")
        assert f"...{path.stem}\n" in together


def test_a_fragment_that_is_not_there_is_told_by_its_name() -> None:
    with pytest.raises(LookupError, match="Nowhere"):
        with_fragments("query Some { order { ...Nowhere } }")
