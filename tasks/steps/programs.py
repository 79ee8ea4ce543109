"""A shop's program and its versions (R17): added, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import zip_longest
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from models.errors import InvalidSetting, Refused
from models.rules.program import Program, complete, program_from
from tasks.steps.codec import dumps
from tasks.steps.paging import Page

VERSIONS = text(
    "select p.version, p.from_at, p.settings, s.earning_from,"
    " exists (select from endpoints e where e.shop_id = p.shop_id and e.state <> 'deleted') as tells,"
    " exists (select from opening_days d where d.shop_id = p.shop_id) as has_history"
    " from programs p join shops s on s.id = p.shop_id where p.shop_id = :shop_id order by p.version"
)
LATEST = text("select version, settings from programs where shop_id = :shop_id order by version desc limit 1")
ADD = text(
    "insert into programs (shop_id, version, settings, from_at)"
    " values (:shop_id, :version, cast(:settings as jsonb), :from_at)"
)
BOOKED = text(
    "select exists (select from wallets where shop_id = :shop_id)"
    " or exists (select from redemptions where shop_id = :shop_id)"
)
# One more than a page, so that the oldest of it has a version to be compared with.
HISTORY = text(
    "select version, from_at, created_at, settings from programs where shop_id = :shop_id"
    " and (cast(:before as int) is null or version < :before) order by version desc limit :limit"
)
LOCK_SHOP = text("select id from shops where id = :shop_id for update")


def programs_of(connection: Connection, shop_id: int) -> list[Program]:
    """Every version of the shop's program, oldest first."""
    return standing_of(connection, shop_id).programs


class Standing(NamedTuple):
    """How a shop stands. tells: somebody outside is told of what happens
    has_history: what some of its customers bought before was imported (D29)
    """

    programs: list[Program]
    tells: bool
    has_history: bool


def standing_of(connection: Connection, shop_id: int) -> Standing:
    """Every version of its program, and what else all work wants to know first: in one statement."""
    rows = connection.execute(VERSIONS, {"shop_id": shop_id}).all()
    programs = [_parsed(row.version, row.from_at, dumps(row.settings), row.earning_from) for row in rows]
    return Standing(programs, any(row.tells for row in rows), any(row.has_history for row in rows))


def current(connection: Connection, shop_id: int) -> tuple[int, dict[str, Any]]:
    """The version in force and its settings, as `GET /program` shows them."""
    row = connection.execute(LATEST, {"shop_id": shop_id}).one()
    return row.version, row.settings


def put(
    connection: Connection,
    shop_id: int,
    settings: Mapping[str, Any],
    *,
    after: int | None = None,
    now: datetime | None = None,
) -> tuple[int, dict[str, Any]]:
    """Make a new version, in force from now on (the first: from ever). Raises InvalidSetting, Refused.

    The same settings again make no new version. after: the version that whoever asks has seen; refused (program_changed)
    when another one is in force meanwhile.
    """
    full = complete(settings)
    connection.execute(LOCK_SHOP, {"shop_id": shop_id})
    row = connection.execute(LATEST, {"shop_id": shop_id}).one_or_none()
    if row is not None and row.settings == full:
        return row.version, full
    if row is not None and after not in (None, row.version):
        raise Refused("program_changed", f"version {row.version} was made meanwhile", version=row.version)
    if row is not None and row.settings["unit"]["scale"] != full["unit"]["scale"]:
        _check_nothing_is_booked(connection, shop_id)
    version = 1 if row is None else row.version + 1
    values = {
        "shop_id": shop_id,
        "version": version,
        "settings": dumps(full),
        "from_at": None if version == 1 else now or datetime.now(UTC),
    }
    connection.execute(ADD, values)
    return version, full


def history(connection: Connection, shop_id: int, *, cursor: int | None = None, limit: int = 20) -> Page:
    """The program's versions, the newest first, each with what it changed of the one before; the cursor is a version."""
    key = {"shop_id": shop_id, "before": cursor, "limit": limit + 1}
    found = connection.execute(HISTORY, key).all()
    rows = [
        {
            "version": row.version,
            "from_at": None if row.from_at is None else row.from_at.isoformat(),
            "created_at": row.created_at.isoformat(),
            "changes": [] if before is None else diff(before.settings, row.settings),
        }
        for row, before in zip_longest(found[:limit], found[1 : limit + 1])
    ]
    return Page(rows=rows, cursor=found[limit - 1].version if len(found) > limit else None)


def diff(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """What differs between two settings, as paths like `earning[place-order].per_currency_unit`; in things that have an
    id, by that. What is new has no `before`, what is gone no `after`."""
    parts = _parts(before), _parts(after)
    if parts[0] is None or parts[1] is None:
        return [] if before == after else [{"path": path, "before": before, "after": after}]
    return [
        change
        for name in dict.fromkeys([*parts[0], *parts[1]])
        for change in diff(
            parts[0].get(name), parts[1].get(name), _path(path, name, of_list=isinstance(after, list))
        )
    ]


def _parts(value: Any) -> Mapping[str, Any] | None:
    """The named parts of a setting; None for one that has none and is compared whole."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and all(isinstance(each, Mapping) and "id" in each for each in value):
        return {str(each["id"]): each for each in value}
    return None


def _path(path: str, name: str, *, of_list: bool) -> str:
    return f"{path}[{name}]" if of_list else f"{path}.{name}".lstrip(".")


def _check_nothing_is_booked(connection: Connection, shop_id: int) -> None:
    """Amounts are kept in the smallest unit: with another scale every balance would read as another one."""
    if connection.execute(BOOKED, {"shop_id": shop_id}).scalar_one():
        raise InvalidSetting(
            "unit.scale", "cannot change once something is booked: all value would read otherwise"
        )


@lru_cache(maxsize=1024)
def _parsed(version: int, from_at: datetime | None, settings: str, earning_from: datetime | None) -> Program:
    """Versions never change, so a parsed one is kept for the life of the process."""
    program = program_from(json.loads(settings), version=version, from_at=from_at)
    return replace(program, earning_from=earning_from)
