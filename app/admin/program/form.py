"""The settings of a section as the fields of a form, and back. What was typed stays as it was typed until it is saved."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from app.admin.program.settings import CHOICE, NUMBER, WHOLE, YES_NO, Rows, Section, Setting
from app.api.program import as_stored
from models.rules.program import OPTIONAL, OPTIONAL_SECTIONS
from tasks.steps import programs

VERSION = "version"  # of the settings that the form was made of
YES = "true"
NEW, REMOVE = "new", "remove"  # of a row: it was not there before; it is to go
WHOLE_TEXT = re.compile(r"-?[0-9]{1,18}")
NUMBER_TEXT = re.compile(r"-?[0-9]{1,18}\.[0-9]{1,9}")
ROWS_MAX = 200  # twice what a list may have
NO_ROW = frozenset({NEW, REMOVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The fields of a section, by name: `waiting_days`, `earning[0].name`. What is not there is empty or unticked."""

    section: Section
    version: int
    values: Mapping[str, str]

    def get(self, name: str) -> str:
        return self.values.get(name, "")

    @property
    def row_names(self) -> list[str]:
        """The beginnings of the rows' names, in their order: `earning[0]`."""
        rows = self.section.rows
        if rows is None:
            return []
        found = {at for name in self.values if (at := row_number(rows, name)) is not None}
        return [f"{rows.path}[{at}]" for at in sorted(found)]

    def is_new(self, row: str) -> bool:
        return self.get(f"{row}.{NEW}") == YES


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Settings that a form asks for. names: where its rows stand in the document -> their beginning in the form."""

    document: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)

    def field(self, path: str) -> str:
        """The form's name of a path in the document."""
        row, dot, rest = path.rpartition("].")
        if dot:
            return f"{self.names.get(row + ']', row + ']')}.{rest}"
        return self.names.get(path, path)


def row_number(rows: Rows, name: str) -> int | None:
    found = re.fullmatch(rf"{re.escape(rows.path)}\[([0-9]{{1,3}})\]\.[a-z_]+", name, re.ASCII)
    number = int(found[1]) if found else ROWS_MAX
    return number if number < ROWS_MAX else None


def form_of(section: Section, version: int, settings: Mapping[str, Any]) -> Form:
    """The form as the settings in force fill it."""
    full = with_optional(settings)
    values = {setting.path: text_of(at(full, setting.path)) for setting in section.settings}
    if section.rows is not None:
        for i, item in enumerate(at(full, section.rows.path)):
            for setting in section.rows.settings:
                values[f"{section.rows.path}[{i}].{setting.path}"] = text_of(item.get(setting.path))
    return Form(section=section, version=version, values=values)


def typed(section: Section, given: Mapping[str, str]) -> Form:
    """The form as somebody filled it in. Fields of other sections are no part of it."""
    known = {setting.path for setting in section.settings}
    values = {name: text for name, text in given.items() if name in known or is_of_row(section, name)}
    text = given.get(VERSION, "")
    return Form(section=section, version=int(text) if WHOLE_TEXT.fullmatch(text) else 0, values=values)


def is_of_row(section: Section, name: str) -> bool:
    rows = section.rows
    if rows is None or row_number(rows, name) is None:
        return False
    return name.rpartition(".")[2] in {*NO_ROW, *(setting.path for setting in rows.settings)}


def with_new_row(form: Form) -> Form:
    """The form with one more row, empty."""
    rows = form.section.rows
    if rows is None:
        return form
    numbers = [number for name in form.values if (number := row_number(rows, name)) is not None]
    row = f"{rows.path}[{max(numbers, default=-1) + 1}]"
    return replace(form, values={**form.values, f"{row}.{NEW}": YES})


def proposal(form: Form, settings: Mapping[str, Any]) -> Proposal:
    """The settings with what the form says in place of the section's own."""
    full = deepcopy(with_optional(settings))
    for setting in form.section.settings:
        put(full, setting.path, value_of(setting, form.get(setting.path)))
    names: dict[str, str] = {}
    rows = form.section.rows
    if rows is not None:
        kept = [row for row in form.row_names if is_kept(form, row, rows)]
        names = {f"{rows.path}[{i}]": row for i, row in enumerate(kept)}
        put(full, rows.path, list(items_of(form, kept, rows)))
    return Proposal(document=without_optional(full, settings), names=names)


def is_kept(form: Form, row: str, rows: Rows) -> bool:
    """Rows that are to go are left out, and so are new ones in which nothing was typed."""
    if form.get(f"{row}.{REMOVE}") == YES:
        return False
    typed_in = (
        form.get(f"{row}.{setting.path}").strip() for setting in rows.settings if setting.kind != CHOICE
    )
    return not form.is_new(row) or any(typed_in)


def items_of(form: Form, kept: list[str], rows: Rows) -> Iterator[dict[str, Any]]:
    """What the rows say. What was left empty is left out: the API fills it in, or asks for it."""
    taken = {id for row in kept if (id := form.get(f"{row}.id").strip())}
    for row in kept:
        texts = {setting.path: form.get(f"{row}.{setting.path}") for setting in rows.settings}
        if not texts["id"].strip() and texts["name"].strip():
            texts["id"] = id_of(texts["name"], rows.item, taken)
            taken.add(texts["id"])
        yield {
            setting.path: value_of(setting, texts[setting.path])
            for setting in rows.settings
            if setting.kind == YES_NO or texts[setting.path].strip()
        }


def id_of(name: str, item: str, taken: set[str]) -> str:
    """An id for a row without one: `VIP Gold` -> `vip-gold`, `vip-gold-2` where that is taken."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or item.rpartition(" ")[2]
    return next(id for i in range(1, ROWS_MAX + 2) if (id := base if i == 1 else f"{base}-{i}") not in taken)


def value_of(setting: Setting, text: str) -> Any:
    """The JSON value of a field. What is no such value stays text, for the API to say what is wrong with it."""
    text = text.strip()
    if setting.kind == YES_NO:
        return text == YES
    if not text and setting.empty is not None:
        return None
    if setting.kind in (WHOLE, NUMBER) and WHOLE_TEXT.fullmatch(text):
        return int(text)
    if setting.kind == NUMBER and NUMBER_TEXT.fullmatch(text):
        return Decimal(text)
    return text


def text_of(value: Any) -> str:
    """A JSON value as a field shows it."""
    if value is None or value is False:
        return ""
    if value is True:
        return YES
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    return str(value)


def at(settings: Mapping[str, Any], path: str) -> Any:
    found: Any = settings
    for name in path.split("."):
        found = found[name]
    return found


def put(settings: dict[str, Any], path: str, value: Any) -> None:
    *above, name = path.split(".")
    found = settings
    for each in above:
        found = found[each]
    found[name] = value


def with_optional(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those that `GET /program` shows only once they were set."""
    full = {**OPTIONAL_SECTIONS, **settings}
    return {name: {**OPTIONAL[name], **part} if name in OPTIONAL else part for name, part in full.items()}


def without_optional(full: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were never set and still are as if not are left out again: nothing has changed about them."""
    kept = {
        name: part for name, part in full.items() if name in settings or part != OPTIONAL_SECTIONS.get(name)
    }
    for name, optional in OPTIONAL.items():
        known = settings[name]
        kept[name] = {
            each: value
            for each, value in kept[name].items()
            if each not in optional or each in known or value != optional[each]
        }
    return kept


def labelled(form: Form, name: str) -> tuple[str, str]:
    """A field that stands in this form and what it is called; without a field, what the API calls it."""
    row, dot, path = name.rpartition("].")
    rows = form.section.rows
    known = {setting.path: setting.label for setting in form.section.settings}
    if rows is not None and dot:
        known = {f"{row}].{setting.path}": f"{rows.item}: {setting.label}" for setting in rows.settings}
        if path == "id" and not form.is_new(f"{row}]"):
            return "", name
    return (name, known[name]) if name in known else ("", name)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What differs, those settings too that are shown only once they were set. Numbers are compared as numbers."""
    return programs.diff(with_optional(before), with_optional(as_stored(after, "")))


def after(form: Form, version: int) -> Form:
    """The same form, to be saved after this version."""
    return replace(form, version=version)
