"""What Shopify signs of a query: every parameter but the signature itself, sorted, encoded as a form."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.query_signature import (
    PARAMETERS_MAX,
    form_encoded,
    is_signed_query,
    pairs_of,
    query_signature,
    signed_text,
)

SECRET, OLD = b"a secret of the tests", b"the one before it"
# Signed by @shopify/shopify-api 13.1.0 under SECRET (tests/contract has many more, where Node is present).
SIGNED = [
    pytest.param(
        b"code=c0de&shop=a-store.myshopify.com&state=n0nce&timestamp=1795000000",
        "a32cd36f2c4b871916d0554f695940fce794a4000bc32eacdca618c2c1b32481",
        id="as Shopify leads back",
    ),
    pytest.param(
        b"timestamp=1795000000&b=%C3%A9+%26%3D%25+%7E%2A-._%21%27%28%29&a=%F0%9F%98%80%0A&ab=",
        "7f2eab504ad4c4e377a6c486418d05a6a6b039ab6a57d5387525b10d68617369",
        id="unsorted and awkward",
    ),
    pytest.param(
        b"ids[]=1&ids[]=%E6%97%A5+2&timestamp=1795000000",
        "8d11ad7e09af36c3a5dadb5ba408a73ff5c67027958934224f2bda27ffd8452c",
        id="a list",
    ),
    pytest.param(
        b"a=%ff%zz&timestamp=1795000000&signature=old",
        "60e1cdd9393d992d2c52d7f721856a3e04cb26fe66e21844ab93974ad4d98a6f",
        id="bytes that are no text, and a signature of old days",
    ),
]


@pytest.mark.parametrize(("query", "hmac"), SIGNED)
def test_what_shopifys_library_signed_is_signed(query, hmac):
    pairs = pairs_of(query + b"&hmac=" + hmac.encode())
    assert is_signed_query(pairs, [SECRET])
    assert is_signed_query(pairs, [b"another", b"", SECRET])
    assert not is_signed_query(pairs, [OLD]) and not is_signed_query(pairs, [])


@pytest.mark.parametrize(("query", "hmac"), SIGNED)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda q, h: (q + b"&more=1", h), id="one more"),
        pytest.param(lambda q, h: (q.replace(b"timestamp=1", b"timestamp=2"), h), id="another value"),
        pytest.param(lambda q, h: (q.replace(b"timestamp", b"timestanp"), h), id="another name"),
        pytest.param(lambda q, h: (q, h.upper()), id="capitals"),
        pytest.param(lambda q, h: (q, h[:-1]), id="cut short"),
        pytest.param(lambda q, h: (q, ""), id="empty"),
        pytest.param(lambda q, h: (q, "%C3%A9" * 64), id="not ASCII"),
        pytest.param(lambda q, h: (q + b"&hmac=" + h.encode(), h), id="signed twice"),
        pytest.param(lambda q, h: (q + b"&timestamp=1795000000", h), id="a name twice, alike"),
    ],
)
def test_what_was_changed_is_not(query, hmac, change):
    changed, signature = change(query, hmac)
    assert not is_signed_query(pairs_of(changed + b"&hmac=" + signature.encode()), [SECRET, OLD])


def test_without_a_signature_nothing_is_signed():
    assert not is_signed_query([("shop", "a-store.myshopify.com")], [SECRET])
    assert not is_signed_query([], [SECRET])


def test_an_empty_secret_signs_nothing():
    pairs = [("a", "1")]
    assert not is_signed_query([*pairs, ("hmac", query_signature(pairs, b""))], [b""])


def test_a_value_cannot_pass_for_two_parameters():
    assert signed_text([("a", "1&b=2")]) != signed_text([("a", "1"), ("b", "2")])
    assert signed_text([("a=1&b", "2")]) != signed_text([("a", "1"), ("b", "2")])


def test_a_query_of_very_many_parameters_is_none():
    assert pairs_of(b"&".join(b"a%d=1" % i for i in range(PARAMETERS_MAX + 1))) == []


def test_letters_are_encoded_as_a_browser_does():
    assert form_encoded("aZ09*-._ ~+&=%/'()!é😀") == (
        "aZ09*-._+%7E%2B%26%3D%25%2F%27%28%29%21%C3%A9%F0%9F%98%80"
    )


names = st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: not name.endswith("[]"))


@given(
    values=st.dictionaries(names, st.text(st.characters(codec="utf-8"), max_size=20), max_size=6),
    secret=st.binary(min_size=1, max_size=40),
)
def test_what_we_sign_is_signed_however_it_was_encoded_and_by_nobody_else(values, secret):
    pairs = [pair for pair in values.items() if pair[0] not in ("hmac", "signature")]
    signed = [*pairs, ("hmac", query_signature(pairs, secret))]
    assert is_signed_query(signed, [secret])
    assert is_signed_query(pairs_of(urlencode(signed).encode()), [secret])
    assert is_signed_query(signed[::-1], [secret])
    assert not is_signed_query(signed, [secret + b"x"])


@given(query=st.binary(max_size=200))
def test_no_made_up_query_is_signed_and_none_raises(query):
    assert not is_signed_query(pairs_of(query), [SECRET, OLD])
    assert not is_signed_query(pairs_of(query + b"&hmac=" + query), [SECRET, OLD])
