"""What differs between two versions of a program, in words: before, after, and what the change does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.admin.program.form import at, text_of
from app.admin.program.settings import CHOICE, SECTIONS, YES_NO, Rows, Setting

Words = Callable[[str], str]
Entry = Mapping[str, Any]  # of `programs.diff`: path, before, after
NOT_THERE = "–"
OF_ROW = re.compile(r"(?P<list>[a-z_.]+)\[(?P<id>[^\]]+)\](?:\.(?P<path>[a-z_]+))?")
ROWS: Mapping[str, Rows] = {
    section.rows.path: section.rows for section in SECTIONS if section.rows is not None
}
KNOWN: Mapping[str, tuple[str, Setting]] = {
    setting.path: (group.title, setting)
    for section in SECTIONS
    for group in section.groups
    for setting in group.settings
}
PLACES = [
    path
    for section in SECTIONS
    for path in (*(s.path for s in section.settings), section.rows and section.rows.path)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting that differs, or a row that came or went."""

    what: str
    before: str
    after: str
    effect: str


def told(entries: Iterable[Entry], settings: Mapping[str, Any]) -> list[Change]:
    """The changes in the program's own words. settings: those in force, for its unit and the names of its rows."""
    words, ordered = words_of(settings), sorted(entries, key=lambda entry: place_of(entry["path"]))
    return [change for entry in ordered for change in of_entry(entry, settings, words)]


def place_of(path: str) -> int:
    """Where a setting or a list stands on the pages."""
    row = OF_ROW.fullmatch(path)
    name = path if row is None else row["list"]
    return PLACES.index(name) if name in PLACES else len(PLACES)


def of_entry(entry: Entry, settings: Mapping[str, Any], words: Words) -> Iterator[Change]:
    path, before, after = entry["path"], entry["before"], entry["after"]
    row = OF_ROW.fullmatch(path)
    if row is not None and row["list"] in ROWS:
        yield of_row(ROWS[row["list"]], row["id"], row["path"], before, after, settings, words)
    elif path in KNOWN:
        title, setting = KNOWN[path]
        yield changed(f"{title}: {setting.label}", setting, before, after, words)
    elif isinstance(after, Mapping) or isinstance(before, Mapping):  # a whole section was never set before
        one, other = before or {}, after or {}
        for name in {**one, **other}:
            if one.get(name) != other.get(name):
                part = {"path": f"{path}.{name}", "before": one.get(name), "after": other.get(name)}
                yield from of_entry(part, settings, words)
    else:
        yield Change(what=path, before=text_of(before), after=text_of(after), effect="")


def of_row(
    rows: Rows, id: str, path: str | None, before: Any, after: Any, settings: Mapping[str, Any], words: Words
) -> Change:
    """A row that came, one that went, or one setting of a row. Rows are the same row when they have the same id."""
    if path is None:
        gone = after is None
        what = f"{rows.item.capitalize()} removed" if gone else f"New {rows.item}"
        return Change(
            what=f"{what}: {(before if gone else after)['name']}",
            before=summary(rows, before, words),
            after=summary(rows, after, words),
            effect=words(rows.removed if gone else rows.added),
        )
    setting = next(each for each in rows.settings if each.path == path)
    named = next((item["name"] for item in at(settings, rows.path) if item["id"] == id), id)
    return changed(f"{named}: {setting.label}", setting, before, after, words)


def changed(what: str, setting: Setting, before: Any, after: Any, words: Words) -> Change:
    return Change(
        what=words(what),
        before=words(spoken(setting, before)),
        after=words(spoken(setting, after)),
        effect=words(f"{setting.effects.get(after, '')} {setting.effect}".strip()),
    )


def summary(rows: Rows, item: Mapping[str, Any] | None, words: Words) -> str:
    """A row in one line: `Kind: Amount off; Cost in points: 500`."""
    if item is None:
        return NOT_THERE
    named = (
        setting for setting in rows.settings if setting.path != "name" and item.get(setting.path) is not None
    )
    return "; ".join(words(f"{setting.label}: {spoken(setting, item[setting.path])}") for setting in named)


def spoken(setting: Setting, value: Any) -> str:
    """A value as people say it."""
    if setting.kind == YES_NO:
        return "Yes" if value else "No"
    if setting.kind == CHOICE:
        return dict(setting.choices).get(value, str(value))
    return text_of(value) or setting.empty or NOT_THERE


def words_of(settings: Mapping[str, Any]) -> Words:
    """Fills in what the program's unit is called."""
    unit = settings["unit"]["kind"]

    def words(text: str) -> str:
        return text.replace("{unit}", unit).replace("{Unit}", unit.capitalize())

    return words
