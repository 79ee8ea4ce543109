"""The pretend store's schema is a part of Shopify's own: nothing in it is called or typed otherwise there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputField,
    GraphQLSchema,
    GraphQLUnionType,
    is_enum_type,
    is_input_object_type,
    is_interface_type,
    is_introspection_type,
    is_object_type,
    is_specified_scalar_type,
    parse,
    validate,
)
from graphql.utilities.print_schema import print_input_value

from app.sandbox.graphql import SCOPES
from app.sandbox.schema import schema
from tasks.gateway.documents import document, names
from tests.contract.conftest import AdminSchema


def differences(ours: GraphQLSchema, theirs: GraphQLSchema) -> Iterator[str]:
    """Everything of ours that is missing there, or is not the same."""
    for name, type_ in ours.type_map.items():
        if is_introspection_type(type_) or is_specified_scalar_type(type_):
            continue
        true = theirs.type_map.get(name)
        if true is None or type(true) is not type(type_):
            yield f"{name}: {type(type_).__name__} here, {type(true).__name__} there"
        elif is_object_type(type_) or is_interface_type(type_):
            yield from of_fields(name, type_.fields, true.fields)
            yield from (
                f"{name} implements {i.name} here only"
                for i in type_.interfaces
                if i.name not in {t.name for t in true.interfaces}
            )
        elif is_input_object_type(type_):
            yield from of_values(name, type_.fields, true.fields)
            if type_.is_one_of != true.is_one_of:
                yield f"{name} is oneOf on one side only"
        elif is_enum_type(type_):
            yield from (f"{name}.{value} is not there" for value in type_.values if value not in true.values)
        elif isinstance(type_, GraphQLUnionType):
            members = {member.name for member in true.types}
            yield from (f"{name} has no {m.name}" for m in type_.types if m.name not in members)


def of_fields(
    name: str, ours: Mapping[str, GraphQLField], theirs: Mapping[str, GraphQLField]
) -> Iterator[str]:
    for field, ours_ in ours.items():
        true = theirs.get(field)
        if true is None or str(true.type) != str(ours_.type):
            yield f"{name}.{field}: {ours_.type} here, {true and true.type} there"
        else:
            yield from of_values(f"{name}.{field}", ours_.args, true.args)
            if true.deprecation_reason:
                yield f"{name}.{field} is deprecated"


def of_values(
    name: str,
    ours: Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField],
    theirs: Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField],
) -> Iterator[str]:
    for value, ours_ in ours.items():
        true = theirs.get(value)
        if true is None or print_input_value(value, true) != print_input_value(value, ours_):
            there = true and print_input_value(value, true)
            yield f"{name}: {print_input_value(value, ours_)} here, {there} there"
    missing = [v for v, true in theirs.items() if v not in ours and must_be_given(v, true)]
    yield from (f"{name}({value}) must be given there" for value in missing)


def must_be_given(name: str, value: GraphQLArgument | GraphQLInputField) -> bool:
    return print_input_value(name, value).endswith("!")


def test_all_that_the_pretend_store_understands_is_shopifys(admin: AdminSchema) -> None:
    assert list(differences(schema(), admin.schema)) == []


@pytest.mark.parametrize("name", names())
def test_the_pretend_store_understands_every_document(name: str) -> None:
    assert validate(schema(), parse(document(name).text)) == []


def test_every_guarded_field_is_a_field_of_the_root() -> None:
    ours = schema()
    assert ours.query_type is not None
    assert ours.mutation_type is not None
    assert set(SCOPES) <= {*ours.query_type.fields, *ours.mutation_type.fields}
