"""Shopify's own library for Node signs and checks the same cases as we do: webhooks, queries, session tokens.

200 generated cases of each, half of them tampered with; all in one process. What it signs we take, what we sign it
takes, and every verdict is the same. Where the two differ on purpose is named below.
"""

from __future__ import annotations

import json
import random
import shutil
import string
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest
from pydantic import SecretStr

from app.install import is_fresh
from app.query_signature import is_signed_query, pairs_of, query_signature
from app.session_tokens import NotASessionToken, verify
from app.signature import is_signed, signature_of
from models.settings import Settings

LIBRARY = "@shopify/shopify-api@13.1.0"
INSTALL_SECONDS = 300
CASES = 200
NOW = 1_795_000_000
KEY = "0123456789abcdef0123456789abcdef"
DOMAIN = "a-store.myshopify.com"
AWKWARD = [
    "",
    " ",
    "+",
    "%",
    "%25",
    "%zz",
    "&",
    "=",
    "a=b&c=d",
    "a+b c%20d",
    "/path?x#y",
    "~*-._!'()",
    '"quoted" \\ back',
    "<script>",
    "\n",
    "\r\n\t",
    "\x00",
    "\x7f",
    "é",
    "e\u0301",
    "ÅÄÖ ß ſ K",
    "日本語",
    "עברית",
    "\u200b\u202e",
    "\ufeff",
    "\ufffd",
    "😀 👩‍👩‍👧",
    "𝔘𝔫𝔴𝔦𝔫𝔡",
    "x" * 5000,
    "YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvYQ",
    "0",
    "-1",
    "null",
    "[]",
]
Case = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Theirs to one case: its verdict, and what it signs the same content with."""

    valid: bool
    signs: str


@dataclass(frozen=True)
class Both:
    """The cases, and theirs to each."""

    hooks: list[tuple[Case, Answer]]
    queries: list[tuple[Case, Answer]]
    tokens: list[tuple[Case, Answer]]


@pytest.fixture(scope="session")
def library(request: pytest.FixtureRequest) -> Path:
    """Where the library is installed: once, in pytest's cache."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not there, so Shopify's library cannot be asked")
    place = Path(request.config.cache.mkdir(f"node-{LIBRARY.replace('/', '-')}"))
    done = place / "installed"
    if not done.exists():
        (place / "package.json").write_text('{"private": true}')
        command = [npm, "install", LIBRARY, "--save-exact", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        done.touch()
    return place


@pytest.fixture(scope="session")
def asked(library: Path) -> Callable[[dict[str, Any]], dict[str, list[Case]]]:
    """Put a batch of cases to the library, in one process."""
    script = Path(__file__).with_name("official.mjs")

    def ask(batch: dict[str, Any]) -> dict[str, list[Case]]:
        content = json.dumps({"now": NOW, "apiKey": KEY, "hooks": [], "queries": [], "tokens": []} | batch)
        command = ["node", str(script), str(library)]
        run = subprocess.run(command, input=content.encode(), capture_output=True, timeout=120)
        assert run.returncode == 0, run.stderr.decode()
        answers: dict[str, list[Case]] = json.loads(run.stdout)
        return answers

    return ask


@pytest.fixture(scope="session")
def both(asked: Callable[[dict[str, Any]], dict[str, list[Case]]]) -> Both:
    batch = {
        "hooks": list(hooks(random.Random(1))),
        "queries": list(queries(random.Random(2))),
        "tokens": list(tokens(random.Random(3))),
    }
    found = {
        name: [(case, Answer(a["valid"], a["signs"])) for case, a in zip(batch[name], answers, strict=True)]
        for name, answers in asked(batch).items()
    }
    return Both(**found)


def some_secret(dice: random.Random) -> str:
    return "shpss_" + "".join(dice.choices("0123456789abcdef", k=32))


def some_text(dice: random.Random) -> str:
    """Awkward texts, alone or together, or letters from anywhere but the surrogates."""
    if dice.random() < 0.7:
        return "".join(dice.choices(AWKWARD, k=dice.choice([1, 1, 2, 3])))
    ranges = [(32, 126), (161, 0x2FF), (0x370, 0x5FF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)]
    return "".join(chr(dice.randint(*dice.choice(ranges))) for _ in range(dice.randint(0, 40)))


def changed(dice: random.Random, text: str) -> str:
    """The text with one letter of the same alphabet in another's place, one less, or one more."""
    at = dice.randrange(len(text) - 2)  # the last letters of base64 may hold unused bits
    other = "b" if text[at] == "a" else "a"
    return dice.choice(
        [text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]]
    )


def hooks(dice: random.Random) -> Iterator[Case]:
    for number in range(CASES):
        secret, content = some_secret(dice), some_text(dice)
        body = (
            json.dumps({"note": content}, ensure_ascii=dice.random() < 0.5) if number % 3 else content or "{}"
        )
        header: str | None = signature_of(body.encode(), secret.encode())
        if number % 2:
            header, body, secret = tampered_hook(dice, str(header), body, secret)
        yield {"secret": secret, "body": body, "header": header}


def tampered_hook(dice: random.Random, header: str, body: str, secret: str) -> tuple[str | None, str, str]:
    digest = signature_of(body.encode(), secret.encode())
    return dice.choice(
        [
            (changed(dice, header), body, secret),
            (header, body + " ", secret),
            (header, body.replace("a", "b", 1) + "x", secret),
            (header, body, some_secret(dice)),
            (None, body, secret),
            ("", body, secret),
            (header.rstrip("="), body, secret),
            (digest[:-2] + chr(ord(digest[-2]) + 1) + "=", body, secret),  # the same bytes, written otherwise
            (f" {header}x", body, secret),
            (header.lower(), body, secret),
        ]
    )


def test_webhooks_are_signed_and_judged_alike(both: Both) -> None:
    verdicts = []
    for case, theirs in both.hooks:
        body, secret = case["body"].encode(), case["secret"].encode()
        ours = is_signed(body, [secret], case["header"])
        assert ours is theirs.valid, case
        assert theirs.signs == signature_of(body, secret)
        assert is_signed(body, [b"another secret", secret], theirs.signs)
        verdicts.append(ours)
    assert len(verdicts) == CASES and CASES / 3 < sum(verdicts) < CASES * 2 / 3


def queries(dice: random.Random) -> Iterator[Case]:
    for number in range(CASES):
        secret = some_secret(dice)
        away = dice.choice([0, 0, 0, 0, 0, -1, 1, -89, -90, 90, -91, 91, -100_000, 100_000])
        pairs = [("shop", DOMAIN), ("timestamp", str(NOW + away)), ("code", "c0de"), ("state", "n0nce")]
        for _ in range(dice.randint(0, 4)):
            name = "".join(dice.choices(string.ascii_lowercase, k=dice.randint(1, 6)))
            pairs.append((name, some_text(dice)))
        if dice.random() < 0.3:
            pairs += [("ids[]", some_text(dice)) for _ in range(dice.randint(1, 3))]
        if dice.random() < 0.1:
            pairs.append(("id_token", "a.b.c"))
        pairs = [pair for i, pair in enumerate(pairs) if pair[0] not in dict(pairs[:i]) or pair[0] == "ids[]"]
        pairs = [pair for pair in pairs if pair[0] not in ("hmac", "signature", "ids")]
        hmac = query_signature(pairs, secret.encode())
        if number % 2:
            pairs, hmac, secret = tampered_query(dice, pairs, hmac, secret)
        pairs.insert(dice.randint(0, len(pairs)), ("hmac", hmac))
        yield {"secret": secret, "query": encoded(dice, pairs)}


def tampered_query(
    dice: random.Random, pairs: list[tuple[str, str]], hmac: str, secret: str
) -> tuple[list[tuple[str, str]], str, str]:
    (name, value), *rest = pairs
    return dice.choice(
        [
            (pairs, changed(dice, hmac), secret),
            (pairs, hmac.upper() if hmac.upper() != hmac else "", secret),
            (pairs, "", secret),
            (pairs, "é" + hmac[1:], secret),
            (pairs, hmac, some_secret(dice)),
            ([*rest, (name, value + "x")], hmac, secret),
            ([*rest, (name, value), ("more9", "")], hmac, secret),
            ([*rest, ("y9", ""), (name, value)], hmac, secret),
            ([*rest, (name + "x", value)], hmac, secret),
            ([*rest, (name, f"{value}&more=1")], hmac, secret),
            (rest, hmac, secret),
        ]
    )


def encoded(dice: random.Random, pairs: list[tuple[str, str]]) -> str:
    """Encoded in one of the ways that mean the same: signatures are over what is meant."""
    if dice.random() < 0.5:
        return urlencode(pairs)
    return "&".join(f"{quote(name, safe='[]')}={quote(value, safe='/:@*~')}" for name, value in pairs)


def test_queries_are_signed_and_judged_alike(both: Both) -> None:
    verdicts = []
    for case, theirs in both.queries:
        pairs, secret = pairs_of(case["query"].encode()), case["secret"].encode()
        fresh = is_fresh(dict(pairs).get("timestamp", ""), datetime.fromtimestamp(NOW, UTC))
        ours = is_signed_query(pairs, [secret]) and fresh
        assert ours is theirs.valid, case
        assert theirs.signs == query_signature(pairs, secret), case
        given = [pair for pair in pairs if pair[0] != "hmac"]
        assert is_signed_query([*given, ("hmac", theirs.signs)], [b"another secret", secret])
        verdicts.append(ours)
    assert len(verdicts) == CASES and CASES / 4 < sum(verdicts) < CASES * 2 / 3


def tokens(dice: random.Random) -> Iterator[Case]:
    for number in range(CASES):
        secret = some_secret(dice)
        claims = {
            "iss": f"https://{DOMAIN}/admin",
            "dest": f"https://{DOMAIN}",
            "aud": KEY,
            "sub": str(dice.randint(1, 10**12)),
            "exp": NOW + dice.choice([60, 60, 1, 0, -9]),
            "nbf": NOW + dice.choice([0, 0, -60, 1, 10]),
            "iat": NOW - 1,
            "jti": some_text(dice)[:300],
            "sid": some_text(dice)[:300],
        }
        token = jwt.encode(claims, secret, algorithm="HS256")
        if number % 2:
            claims, token, secret = tampered_token(dice, claims, secret)
        yield {"secret": secret, "claims": claims, "token": token}


def tampered_token(
    dice: random.Random, claims: dict[str, Any], secret: str
) -> tuple[dict[str, Any], str, str]:
    change = dice.choice(
        [
            {"exp": NOW - 10},
            {"exp": NOW - 11},
            {"exp": 0},
            {"nbf": NOW + 11},
            {"nbf": NOW + 10**6},
            {"aud": KEY[:-1]},
            {"aud": KEY.upper()},
            {"aud": [KEY]},
            {"aud": ""},
            {"exp": str(NOW + 60)},
        ]
    )
    good = jwt.encode(claims, secret, algorithm="HS256")
    head, content, signature = good.split(".")
    other = jwt.encode(claims | {"dest": "https://other-store.myshopify.com"}, secret, algorithm="HS256")
    if dice.random() < 0.5:
        return claims | change, jwt.encode(claims | change, secret, algorithm="HS256"), secret
    return dice.choice(
        [
            (claims, good, some_secret(dice)),
            (claims, changed(dice, good), secret),
            (claims, f"{head}.{content}.", secret),
            (claims, f"{head}.{content}", secret),
            (claims, f"{head}.{other.split('.')[1]}.{signature}", secret),
            (claims, jwt.encode(claims, "", algorithm="none"), secret),
            (claims, jwt.encode(claims, secret * 2, algorithm="HS512"), secret * 2),
            (claims, jwt.encode(claims, secret * 2, algorithm="HS384"), secret * 2),
            (claims, "", secret),
            (claims, f"{good}.x", secret),
        ]
    )


def taken(token: str, secret: str) -> bool:
    settings = Settings(
        shopify_api_key=KEY, shopify_api_secret=(SecretStr("another secret"), SecretStr(secret))
    )
    try:
        return verify(settings, token, datetime.fromtimestamp(NOW, UTC)).domain == DOMAIN
    except NotASessionToken:
        return False


def test_session_tokens_are_signed_and_judged_alike(both: Both) -> None:
    verdicts = []
    for case, theirs in both.tokens:
        ours = taken(case["token"], case["secret"])
        assert ours is theirs.valid, case
        as_good = taken(jwt.encode(case["claims"], case["secret"], algorithm="HS256"), case["secret"])
        assert taken(theirs.signs, case["secret"]) is as_good, case
        verdicts.append(ours)
    assert len(verdicts) == CASES and CASES / 3 < sum(verdicts) < CASES * 2 / 3


SIGNED = [("shop", DOMAIN), ("state", "n0nce"), ("timestamp", str(NOW))]
SECRET = "shpss_0123456789abcdef0123456789abcdef"
CLAIMS = {"iss": f"https://{DOMAIN}/admin", "dest": f"https://{DOMAIN}", "aud": KEY, "sub": "1"}
TIMES = {"exp": NOW + 60, "nbf": NOW}


def query_where(pairs: list[tuple[str, str]], *unsigned: tuple[str, str]) -> str:
    return urlencode([*unsigned, *pairs, ("hmac", query_signature(pairs, SECRET.encode()))])


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(query_where(SIGNED, ("shop", "other-store.myshopify.com")), id="a name given twice"),
        pytest.param(query_where(SIGNED[:2]), id="without a timestamp"),
        pytest.param(query_where([*SIGNED[:2], ("timestamp", "soon")]), id="a timestamp that is no number"),
    ],
)
def test_of_queries_ours_refuses_what_theirs_lets_through(asked, query) -> None:
    """Theirs takes the last of two values for the signature, and compares no time with what is none."""
    (theirs,) = asked({"queries": [{"secret": SECRET, "query": query}]})["queries"]
    pairs = pairs_of(query.encode())
    fresh = is_fresh(dict(pairs).get("timestamp", ""), datetime.fromtimestamp(NOW, UTC))
    assert theirs["valid"] is True
    assert not (is_signed_query(pairs, [SECRET.encode()]) and fresh)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(CLAIMS | {"nbf": NOW}, id="without an end"),
        pytest.param(CLAIMS | {"exp": NOW + 60}, id="without a beginning"),
        pytest.param(
            CLAIMS | TIMES | {"iss": "https://other-store.myshopify.com/admin"}, id="another issuer"
        ),
        pytest.param(CLAIMS | TIMES | {"dest": "https://evil.com"}, id="of no shop"),
        pytest.param(
            CLAIMS
            | TIMES
            | {"dest": f"https://{DOMAIN}.evil.com", "iss": f"https://{DOMAIN}.evil.com/admin"},
            id="of a shop's name that goes on",
        ),
    ],
)
def test_of_session_tokens_ours_refuses_what_theirs_leaves_to_its_caller(asked, claims) -> None:
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    (theirs,) = asked({"tokens": [{"secret": SECRET, "token": token, "claims": claims}]})["tokens"]
    assert theirs["valid"] is True and not taken(token, SECRET)
    assert taken(jwt.encode(CLAIMS | TIMES, SECRET, algorithm="HS256"), SECRET)


def test_an_empty_body_is_refused_by_theirs_unread(asked) -> None:
    """Shopify sends none; ours asks its signature as every other's, and then finds no JSON in it."""
    case = {"secret": SECRET, "body": "", "header": signature_of(b"", SECRET.encode())}
    (theirs,) = asked({"hooks": [case]})["hooks"]
    assert theirs["valid"] is False and is_signed(b"", [SECRET.encode()], case["header"])
