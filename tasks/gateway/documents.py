"""The GraphQL documents we send: `documents/<name>.graphql`, one operation a file, named as the file in CamelCase.

What several of them ask for alike is a fragment, `documents/fragments/<Name>.graphql`; a document is its file and the
fragments that it names, and nothing else is put together, so that every one can be checked against the true schema
(tests/contract).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("documents")
FRAGMENTS = FOLDER / "fragments"
OPERATION = re.compile(r"^(query|mutation|subscription)\b[ \t]*(\w*)", re.MULTILINE)
SPREAD = re.compile(r"\.\.\.(\w+)")  # `...Name`; of an inline fragment `... on` the blank tells


@dataclass(frozen=True, slots=True)
class Document:
    """One operation. A mutation without an answer may have been done; a query can be sent again."""

    name: str
    text: str
    is_mutation: bool


@cache
def document(name: str) -> Document:
    """The document of this name. Raises LookupError for one that is not there, or not named as its file."""
    path = FOLDER / f"{name}.graphql"
    if not path.is_file():
        raise LookupError(f"no document {name!r}")
    text = with_fragments(path.read_text(encoding="utf-8"))
    operations = OPERATION.findall(text)
    if len(operations) != 1 or operations[0][1] != operation_name(name):
        raise LookupError(f"{path.name} must hold one operation, named {operation_name(name)}")
    return Document(name, text, is_mutation=operations[0][0] == "mutation")


def with_fragments(text: str) -> str:
    """The text, and after it each fragment that it or another fragment names, once. Raises LookupError."""
    named: list[str] = []
    waiting = SPREAD.findall(text)
    while waiting:
        name = waiting.pop(0)
        if name in named:
            continue
        path = FRAGMENTS / f"{name}.graphql"
        if not path.is_file():
            raise LookupError(f"no fragment {name!r}")
        named.append(name)
        fragment = path.read_text(encoding="utf-8")
        waiting += SPREAD.findall(fragment)
        text += f"\n{fragment}"
    return text


def names() -> tuple[str, ...]:
    """Every document there is, by name."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.graphql")))


def operation_name(name: str) -> str:
    """`create_code` -> `CreateCode`."""
    return "".join(part.capitalize() for part in name.split("_"))
