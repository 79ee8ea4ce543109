"""Shopify's signature of a query: hex of HMAC-SHA256 over all parameters but itself, sorted by name, encoded as a form.

As @shopify/shopify-api 13 makes it (tests/contract holds the two against each other). Not used: `validate_hmac` of
shopifyapi, which knows one secret, keeps it in a class, and signs the values unencoded.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, quote_plus

SIGNATURE = "hmac"
NOT_SIGNED = (SIGNATURE, "signature")  # the second one is of old days; nobody reads it
PARAMETERS_MAX = 100
Pairs = Sequence[tuple[str, str]]


def pairs_of(query: bytes) -> list[tuple[str, str]]:
    """A query's parameters as a form's: `+` is a space, bytes that are not UTF-8 become U+FFFD; [] when too many."""
    text = query.decode("latin-1")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        return []


def repeated(pairs: Pairs) -> bool:
    """Whether a name is there twice: then nobody can say which of the values is meant. Lists (`ids[]`) may be."""
    names = [name for name, _ in pairs if not name.endswith("[]")]
    return len(set(names)) < len(names)


def is_signed_query(pairs: Pairs, secrets: Iterable[bytes]) -> bool:
    """Whether `hmac` signs exactly the other parameters under any of the secrets. Never raises.

    Every secret is tried, each compared in constant time, as bytes. An empty secret signs nothing. A name that is
    given twice is never signed.
    """
    given = [value for name, value in pairs if name == SIGNATURE]
    if len(given) != 1 or repeated(pairs):
        return False
    wanted = given[0].encode("utf-8", "surrogatepass")
    matches = [
        hmac.compare_digest(query_signature(pairs, secret).encode(), wanted) for secret in secrets if secret
    ]
    return any(matches)


def query_signature(pairs: Pairs, secret: bytes) -> str:
    """The `hmac` of these parameters, as Shopify sends it."""
    return hmac.digest(secret, signed_text(pairs), "sha256").hex()


def signed_text(pairs: Pairs) -> bytes:
    """What is signed: `code=0907a61c&shop=some-shop.myshopify.com&state=0.6784&timestamp=1337178173`."""
    rest = sorted(
        ((name, value) for name, value in pairs if name not in NOT_SIGNED), key=lambda pair: pair[0]
    )
    return "&".join(f"{form_encoded(name)}={form_encoded(value)}" for name, value in rest).encode()


def form_encoded(text: str) -> str:
    """As a browser encodes a form: letters, digits and `*-._` stay, a space is `+` (Python leaves `~` as well)."""
    return quote_plus(text, safe="*", errors="replace").replace("~", "%7E")
