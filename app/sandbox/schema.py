"""The part of Shopify's Admin schema that the pretend store understands (admin.graphql)."""

from __future__ import annotations

from functools import cache
from importlib import resources

from graphql import GraphQLSchema, build_schema


@cache
def schema() -> GraphQLSchema:
    return build_schema(resources.files("app.sandbox").joinpath("admin.graphql").read_text(encoding="utf-8"))
