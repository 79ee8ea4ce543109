"""A session token is Shopify's word for one shop, one app and one minute; nothing else is taken for one."""

from __future__ import annotations

import base64
import hmac
import json
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.session_tokens import NotASessionToken, SessionToken, verify
from models.settings import Settings
from tests.web.admin import KEY, RETIRING, SECRET, UNKNOWN, claims_of, session_token

DOMAIN = "a-store.myshopify.com"
NOW = datetime.fromtimestamp(int(time.time()), UTC)
SETTINGS = Settings(shopify_api_key=KEY, shopify_api_secret=(SecretStr(SECRET), SecretStr(RETIRING)))
AT = int(NOW.timestamp())


def claims(**changes: object) -> dict[str, object]:
    return claims_of(DOMAIN, **({"exp": AT + 60, "nbf": AT, "iat": AT} | changes))


def refused(token: str, settings: Settings = SETTINGS, now: datetime = NOW) -> str:
    with pytest.raises(NotASessionToken) as told:
        verify(settings, token, now)
    assert len(token) < 9 or token not in str(told.value)
    return told.value.reason


def forged(header: dict[str, object], claims: dict[str, object], key: bytes = SECRET.encode()) -> str:
    """A token of any header, signed with HMAC all the same."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = base64.urlsafe_b64encode(hmac.digest(key, b".".join(parts), "sha256")).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


@pytest.mark.parametrize("secret", [SECRET, RETIRING])
def test_what_shopify_signed_says_whose_page_it_is(secret) -> None:
    token = session_token(DOMAIN, secret=secret, exp=AT + 60, nbf=AT)
    assert verify(SETTINGS, token, NOW) == SessionToken(DOMAIN, "424242", NOW + timedelta(seconds=60))


def test_the_forged_tokens_of_these_tests_would_be_taken_but_for_what_they_change() -> None:
    good = forged({"alg": "HS256", "typ": "JWT"}, claims())
    assert verify(SETTINGS, good, NOW).domain == DOMAIN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"aud": "another-app"}, "aud", id="for another app"),
        pytest.param({"aud": ""}, "aud", id="for no app"),
        pytest.param({"aud": None}, "aud", id="without an audience"),
        pytest.param({"aud": [KEY]}, "aud", id="a list of audiences"),
        pytest.param({"aud": [KEY, "another-app"]}, "aud", id="for two apps"),
        pytest.param({"exp": AT - 11}, "exp", id="expired"),
        pytest.param({"exp": AT - 10}, "exp", id="expired to the second"),
        pytest.param({"exp": None}, "exp", id="for ever"),
        pytest.param({"exp": str(AT + 60)}, "exp", id="an end in quotes"),
        pytest.param({"exp": AT + 60.5}, "exp", id="an end with a fraction"),
        pytest.param({"exp": True}, "exp", id="an end that is true"),
        pytest.param({"exp": 10**30}, "exp", id="beyond the calendar"),
        pytest.param({"exp": -1}, "exp", id="before time"),
        pytest.param({"nbf": AT + 11}, "nbf", id="not yet"),
        pytest.param({"nbf": None}, "nbf", id="without a beginning"),
        pytest.param({"nbf": "0"}, "nbf", id="a beginning in quotes"),
        pytest.param({"dest": None}, "dest", id="without a shop"),
        pytest.param({"dest": 7}, "dest", id="a shop that is a number"),
        pytest.param({"dest": DOMAIN}, "dest", id="a shop without a scheme"),
        pytest.param({"dest": f"http://{DOMAIN}"}, "dest", id="a shop without encryption"),
        pytest.param({"dest": f"https://{DOMAIN}/"}, "dest", id="a slash behind it"),
        pytest.param({"dest": f"https://{DOMAIN}/x"}, "dest", id="a path"),
        pytest.param({"dest": f"https://{DOMAIN}:443"}, "dest", id="a port"),
        pytest.param({"dest": f"https://{DOMAIN}\n"}, "dest", id="a newline"),
        pytest.param({"dest": "https://evil.com"}, "dest", id="no shop"),
        pytest.param({"dest": f"https://{DOMAIN}.evil.com"}, "dest", id="a name that goes on"),
        pytest.param({"dest": "https://evil.com/x#.myshopify.com"}, "dest", id="a fragment that ends well"),
        pytest.param({"dest": f"https://u@{DOMAIN}"}, "dest", id="a user"),
        pytest.param({"dest": f"https://{DOMAIN.upper()}"}, "dest", id="capital letters"),
        pytest.param({"dest": f"https://https://{DOMAIN}"}, "dest", id="two schemes"),
        pytest.param({"iss": None}, "dest", id="without an issuer"),
        pytest.param({"iss": "https://other-store.myshopify.com/admin"}, "iss", id="issued by another shop"),
        pytest.param({"iss": f"https://{DOMAIN}.evil.com/admin"}, "iss", id="issued by a longer name"),
        pytest.param({"iss": f"http://{DOMAIN}/admin"}, "iss", id="issued without encryption"),
        pytest.param({"iss": f"https://{DOMAIN}@evil.com/admin"}, "iss", id="issued elsewhere"),
        pytest.param({"iss": "https://[/admin"}, "dest", id="an issuer that is no address"),
        pytest.param({"sub": None}, "sub", id="of nobody"),
        pytest.param({"sub": ""}, "sub", id="of an empty user"),
        pytest.param({"sub": 424242}, "sub", id="of a number"),
    ],
)
def test_every_claim_has_to_be_right(changes, reason) -> None:
    assert refused(forged({"alg": "HS256"}, claims(**changes))) == reason


@pytest.mark.parametrize(
    "changes", [pytest.param({"exp": AT - 9}, id="just ended"), pytest.param({"nbf": AT + 10}, id="at once")]
)
def test_clocks_may_differ_by_ten_seconds(changes) -> None:
    token = session_token(DOMAIN, **({"exp": AT + 60, "nbf": AT} | changes))
    assert verify(SETTINGS, token, NOW).domain == DOMAIN


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param({"alg": "none"}, "alg", id="none"),
        pytest.param({"alg": "None"}, "alg", id="None"),
        pytest.param({"alg": "HS512"}, "alg", id="another hash"),
        pytest.param({"alg": "RS256"}, "alg", id="a public key's algorithm, signed with our secret"),
        pytest.param({"alg": "hs256"}, "alg", id="small letters"),
        pytest.param({"typ": "JWT"}, "alg", id="no algorithm"),
        pytest.param({"alg": None}, "alg", id="null"),
        pytest.param({"alg": ["HS256"]}, "alg", id="a list"),
        pytest.param({"alg": "HS256", "crit": ["b64"], "b64": False}, "form", id="a critical extension"),
        pytest.param({"alg": "HS256", "kid": 7}, "form", id="a key's name that is a number"),
        pytest.param([], "form", id="a header that is a list"),
    ],
)
def test_no_other_algorithm_is_taken(header, reason) -> None:
    assert refused(forged(header, claims())) in {reason, "form"}


def test_an_unsigned_token_is_refused() -> None:
    token = jwt.encode(claims(), None, algorithm="none")  # type: ignore[arg-type]
    assert refused(token) in {"alg", "signature"}
    assert refused(session_token(DOMAIN).rpartition(".")[0] + ".") == "signature"


def test_a_token_signed_by_a_key_pair_is_refused() -> None:
    pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert refused(jwt.encode(claims(), pair, algorithm="RS256")) == "alg"


@pytest.mark.parametrize("secret", [UNKNOWN, SECRET[:-1], SECRET + "x", KEY * 2])
def test_another_key_signs_nothing(secret) -> None:
    assert refused(session_token(DOMAIN, secret=secret)) == "signature"


def test_a_secret_that_was_taken_away_signs_nothing_any_more() -> None:
    after = SETTINGS.model_copy(update={"shopify_api_secret": (SecretStr(SECRET),)})
    assert refused(session_token(DOMAIN, secret=RETIRING), after) == "signature"


def test_without_a_client_id_or_a_secret_nothing_is_taken() -> None:
    for gone in ({"shopify_api_key": ""}, {"shopify_api_secret": ()}):
        settings = SETTINGS.model_copy(update=gone)
        assert refused(session_token(DOMAIN, aud=settings.shopify_api_key), settings)


def test_an_empty_secret_signs_nothing() -> None:
    settings = SETTINGS.model_copy(update={"shopify_api_secret": (SecretStr(""),)})
    assert refused(forged({"alg": "HS256"}, claims(), key=b""), settings) == "signature"


def test_a_short_secret_is_checked_like_a_long_one() -> None:
    settings = SETTINGS.model_copy(update={"shopify_api_secret": (SecretStr("short"),)})
    token = forged({"alg": "HS256"}, claims(), key=b"short")
    assert verify(settings, token, NOW).domain == DOMAIN
    assert refused(token) == "signature"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\u00e9.b.c",
        "\udcff",
        "x" * 10_000,
        "e30.e30.",
        "bnVsbA.bnVsbA.bnVsbA",
        "a" * 4096,
    ],
)
def test_rubbish_is_refused_without_a_fuss(token) -> None:
    assert refused(token)


@given(token=st.text(max_size=120))
def test_no_made_up_text_is_a_session_token(token) -> None:
    assert refused(token)


@given(at=st.integers(0, 10_000), letter=st.sampled_from("AQgw019-_.="))
def test_a_token_that_was_changed_anywhere_is_another_shops_nowhere(at, letter) -> None:
    token = session_token(DOMAIN, exp=AT + 60, nbf=AT)
    at %= len(token)
    changed = token[:at] + letter + token[at + 1 :]
    try:
        found = verify(SETTINGS, changed, NOW)
    except NotASessionToken:
        return
    assert found == verify(SETTINGS, token, NOW)  # the same letter, or unused bits at the signature's end


def test_claims_that_are_no_object_are_refused() -> None:
    for content in ([], "text", None, 7):
        assert refused(forged({"alg": "HS256"}, content)) == "form"  # type: ignore[arg-type]


def test_a_deeply_nested_token_is_refused() -> None:
    header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    claims = base64.urlsafe_b64encode(b"[" * 2900).rstrip(b"=")
    signature = hmac.digest(SECRET.encode(), header + b"." + claims, "sha256")
    token = b".".join([header, claims, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    assert refused(token) == "form"
