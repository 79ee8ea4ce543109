"""A shop's program and its versions (R17): added, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from models.errors import InvalidSetting
from models.rules.program import Program, complete, program_from
from tasks.steps.codec import dumps

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
    connection: Connection, shop_id: int, settings: Mapping[str, Any], *, now: datetime | None = None
) -> tuple[int, dict[str, Any]]:
    """Make a new version, in force from now on (the first: from ever). Raises InvalidSetting.

    The same settings again make no new version.
    """
    full = complete(settings)
    connection.execute(LOCK_SHOP, {"shop_id": shop_id})
    row = connection.execute(LATEST, {"shop_id": shop_id}).one_or_none()
    if row is not None and row.settings == full:
        return row.version, full
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
