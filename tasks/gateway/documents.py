"""The GraphQL documents we send: `documents/<name>.graphql`, one operation a file, named as the file in CamelCase.

They are texts and nothing is put together at run time, so that every one can be checked against the true schema
(tests/contract).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("documents")
OPERATION = re.compile(r"^(query|mutation|subscription)\b[ \t]*(\w*)", re.MULTILINE)


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
    text = path.read_text(encoding="utf-8")
    operations = OPERATION.findall(text)
    if len(operations) != 1 or operations[0][1] != operation_name(name):
        raise LookupError(f"{path.name} must hold one operation, named {operation_name(name)}")
    return Document(name, text, is_mutation=operations[0][0] == "mutation")


def names() -> tuple[str, ...]:
    """Every document there is, by name."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.graphql")))


def operation_name(name: str) -> str:
    """`create_code` -> `CreateCode`."""
    return "".join(part.capitalize() for part in name.split("_"))
