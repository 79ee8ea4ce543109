"""Only Shopify can have signed it, and no header can make the question itself fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.signature import is_signed, signature_of

BODY = b'{"id": 1001, "note": "caf\xc3\xa9"}'
NEW, OLD = b"new secret", b"old secret"
DIGEST = hmac.new(NEW, BODY, hashlib.sha256).digest()
GOOD = base64.b64encode(DIGEST).decode()


@pytest.mark.parametrize(
    ("body", "secrets", "header", "expected"),
    [
        pytest.param(BODY, [NEW], GOOD, True, id="signed with the secret"),
        pytest.param(BODY, [OLD, NEW], GOOD, True, id="signed with any secret while rotating"),
        pytest.param(b"", [NEW], signature_of(b"", NEW), True, id="an empty body can be signed too"),
        pytest.param(BODY, [OLD], GOOD, False, id="signed with a secret that is gone"),
        pytest.param(BODY + b" ", [NEW], GOOD, False, id="one more byte"),
        pytest.param(
            json.dumps(json.loads(BODY)).encode(), [NEW], GOOD, False, id="the same JSON written again"
        ),
        pytest.param(BODY, [NEW], None, False, id="no header"),
        pytest.param(BODY, [NEW], "", False, id="an empty header"),
        pytest.param(BODY, [], GOOD, False, id="no secrets"),
        pytest.param(BODY, [b""], signature_of(BODY, b""), False, id="an empty secret signs nothing"),
        pytest.param(BODY, [NEW], DIGEST.hex(), False, id="hexadecimal"),
        pytest.param(BODY, [NEW], GOOD.rstrip("="), False, id="without padding"),
        pytest.param(BODY, [NEW], GOOD + "!!", False, id="rubbish behind it"),
        pytest.param(BODY, [NEW], f" {GOOD}", False, id="a space before it"),
        pytest.param(BODY, [NEW], GOOD[:-2] + "é=", False, id="a letter that is not ASCII"),
        pytest.param(BODY, [NEW], "\udcff" * 44, False, id="half a surrogate"),
        pytest.param(BODY, [NEW], "=" * 44, False, id="nothing but padding"),
        pytest.param(BODY, [NEW], base64.b64encode(DIGEST[:-1]).decode(), False, id="a digest cut short"),
    ],
)
def test_a_body_is_signed_only_by_its_own_bytes_and_a_known_secret(body, secrets, header, expected):
    assert is_signed(body, secrets, header) is expected


@given(
    body=st.binary(max_size=200), header=st.one_of(st.text(max_size=100), st.text(min_size=44, max_size=44))
)
def test_no_made_up_header_signs_and_none_raises(body, header):
    assert is_signed(body, [NEW, OLD], header) is False


@given(body=st.binary(max_size=200), secret=st.binary(min_size=1, max_size=64), other=st.binary(max_size=200))
def test_a_signature_holds_for_its_body_alone(body, secret, other):
    header = signature_of(body, secret)
    assert is_signed(body, [secret], header)
    assert is_signed(other, [secret], header) is (other == body)
