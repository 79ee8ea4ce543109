"""Bytes to one JSON object, strictly: what Python's reader lets through in silence is refused here.

UTF-8 only, no byte order mark, no NaN or Infinity, no key twice in one object (the last one would win in silence),
at most MAX_DEPTH deep, an object at the top. Numbers with a fraction stay text, so that no float ever holds money.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeAlias

from models.errors import Unparseable

Node: TypeAlias = dict[str, Any]

MAX_DEPTH = 64  # Shopify's deepest payload is below 15; beyond this only an attack or an accident nests
TOO_DEEP = f"is nested deeper than {MAX_DEPTH}"
WHOLE = "body"  # the field named when the body as such is at fault


def read_object(body: bytes) -> Node:
    """The JSON object in `body`; numbers that are not whole come as text. Raises Unparseable."""
    node = _decode(body)
    if type(node) is not dict:
        raise Unparseable(WHOLE, "is not a JSON object")
    _check_depth(node)
    return node


def _decode(body: bytes) -> Any:
    if body.startswith(b"\xef\xbb\xbf"):
        raise Unparseable(WHOLE, "starts with a byte order mark")
    try:
        return _READER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Unparseable(WHOLE, f"is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise Unparseable(WHOLE, TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise Unparseable(WHOLE, f"is not JSON at character {error.pos}") from None
    except ValueError:  # an integer of more digits than Python reads
        raise Unparseable(WHOLE, "holds a number that is too long") from None


def _once_each(pairs: list[tuple[str, Any]]) -> Node:
    """An object, provided that no key is there twice. (Costs a third on top of decoding; counting colons and keys
    afterwards was measured to cost three times as much.)"""
    node = dict(pairs)
    if len(node) != len(pairs):
        raise Unparseable(WHOLE, "holds an object with one key twice")
    return node


def _refuse_constant(name: str) -> NoReturn:
    raise Unparseable(WHOLE, f"holds {name}, which is not JSON")


_READER = json.JSONDecoder(object_pairs_hook=_once_each, parse_float=str, parse_constant=_refuse_constant)


def _check_depth(node: Node) -> None:
    """Level by level, without recursion."""
    level: list[Any] = [node]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for part in level
            for inner in (part.values() if type(part) is dict else part)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise Unparseable(WHOLE, TOO_DEEP)
