"""The access scopes that the app asks for: those that its documents and topics need, and no others without a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from graphql import parse

from models.settings import Settings
from tasks.gateway.documents import document, names
from tasks.steps.subscriptions import TOPICS, enum_of
from tests.contract.conftest import AdminSchema
from tests.contract.test_documents import asked

ASKED = frozenset(Settings.model_fields["shopify_scopes"].default)

# Scopes that no document and no topic of ours is refused without, and why they are asked for all the same.
FOR_ANOTHER_REASON = {
    "read_all_orders": "orders of more than 60 days ago: returns come later than that",
    "read_returns": "webhooks of the topics returns/*, which are kept on record",
}
# Topics whose scope is not asked for by default, and why.
ONLY_WHERE_GRANTED = {
    "disputes/create": "only stores with Shopify Payments have disputes; who has them adds the scope",
    "disputes/update": "as above",
}
ONE_OF = re.compile(r"(Apps must have )?(`\w+`( access scope)?(, | or )?)+( access scope)?\.")


def needed(admin: AdminSchema, name: str) -> Mapping[str, frozenset[str]]:
    """What a document uses -> the scopes of which one is enough. Fails on access that is said in other words than
    `this or that scope`: a person must read those."""
    entries = {(entry["typeName"], entry.get("fieldName")): entry for entry in admin.access}
    found = {}
    for of, field, type_name in asked(admin.schema, parse(document(name).text)):
        for key in ((of, field), (type_name, None)):
            said = entries.get(key, {}).get("requiredAccess")
            if said:
                assert ONE_OF.fullmatch(said), f"{key}: {said}"
                assert set(re.findall(r"`(\w+)`", said)) == set(entries[key]["offlineScopes"])
                found[f"{key[0]}.{key[1]}" if key[1] else key[0]] = frozenset(entries[key]["offlineScopes"])
    return found


@pytest.mark.parametrize("name", names())
def test_the_scopes_asked_for_are_enough_for_a_document(admin, name):
    refused = {what: scopes for what, scopes in needed(admin, name).items() if not scopes & ASKED}
    assert refused == {}


def test_every_scope_asked_for_is_needed_by_a_document_or_a_topic_or_has_a_reason(admin):
    by_documents = frozenset[str]().union(
        *(scopes for name in names() for scopes in needed(admin, name).values())
    )
    by_topics = frozenset[str]().union(*(TOPICS[topic] for topic in TOPICS))
    assert ASKED - by_documents - by_topics == FOR_ANOTHER_REASON.keys()


def test_some_scopes_are_needed_at_all(admin):
    assert needed(admin, "discount_create")["Mutation.discountCodeBasicCreate"] == {"write_discounts"}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_needs_the_scopes_that_we_think(admin, topic):
    said = admin.schema.get_type("WebhookSubscriptionTopic").values[enum_of(topic)].description
    scopes = set(re.findall(r"\b(?:read|write)_[a-z_]+", said))
    assert scopes >= set(TOPICS[topic])
    assert bool(TOPICS[topic]) == bool(scopes)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_scopes_asked_for_are_enough_for_a_topic(topic):
    enough = not TOPICS[topic] or bool(ASKED & set(TOPICS[topic]))
    assert enough != (topic in ONLY_WHERE_GRANTED)
