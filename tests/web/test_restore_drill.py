"""The restore drill of docs/backup.md: a dump, a new database, another broker that knows nothing, and the gap made good."""

from __future__ import annotations

import base64
import re
import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import create_engine, make_url, text

from app.web import create_app
from models.session import make_engine, with_driver
from models.settings import load_settings
from tests.conftest import new_database, of
from tests.pretend import PretendShopify, pretend_shopify
from tests.terminal import Unwind
from worker.embedded.binaries import POSTGRES, root_of

KEY, ANOTHER_KEY = (base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
NOT_OF_OLDER_SERVERS = re.compile(r"^SET transaction_timeout = 0;$", re.MULTILINE)


@pytest.fixture
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify() as found:
        found.front().bucket.restored = 10**6
        yield found


@pytest.fixture
def environment(shopify: PretendShopify, environment: dict[str, str]) -> dict[str, str]:
    return shopify.settings(**environment, token_encryption_keys=KEY)


@pytest.fixture
def domain(shopify: PretendShopify, database_url: str) -> str:
    """A store that was connected yesterday."""
    engine = make_engine(database_url)
    id = shopify.connect(engine, key=KEY)
    with engine.begin() as connection:
        since = "update shops set installed_at = :at, earning_from = :at where id = :id"
        connection.execute(text(since), {"at": datetime.now(UTC) - timedelta(days=1), "id": id})
    engine.dispose()
    return shopify.domain


def client(name: str, *arguments: str, given: str | None = None) -> str:
    """What a program of PostgreSQL prints. Of the package, so that the drill needs nothing that is not installed."""
    root = root_of(POSTGRES)
    assert root
    program = (root / POSTGRES.program).with_name(name)
    done = subprocess.run([program, *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def restore(dump: Path, url: str) -> None:
    """`pg_restore --single-transaction`, but by way of psql: the package's client may be newer than the server."""
    statements = client("pg_restore", "--no-owner", "--file=-", str(dump))
    psql = ("--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--dbname={url}")
    client("psql", *psql, given=NOT_OF_OLDER_SERVERS.sub("", statements))


def points(url: str) -> int:
    engine = create_engine(with_driver(url))
    with engine.connect() as connection:
        found = connection.execute(text("select sum(balance) from wallets")).scalar_one()
    engine.dispose()
    return int(found or 0)


def bought(shopify: PretendShopify) -> str:
    at = datetime.now(UTC) - timedelta(minutes=30)
    return shopify.buy(customer=shopify.customer(), at=at).name


def test_what_was_lost_since_the_dump_is_read_again_from_shopify(
    unwind: Unwind,
    shopify: PretendShopify,
    domain: str,
    database_server: str,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    dump = tmp_path / "unwind.dump"
    bought(shopify)
    assert unwind("reconcile", domain).status == 1
    client("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={plain(database_url)}")
    after_the_dump = bought(shopify)
    assert unwind("reconcile", domain).status == 1
    booked = points(database_url)
    with Redis.from_url(redis_url) as broker:
        broker.flushdb()
    with new_database(database_server) as name:
        url = of(database_server, name)
        restore(dump, url)
        assert ready(url, redis_url)
        assert unwind("verify", DATABASE_URL=url).status == 0
        assert points(url) < booked
        no_key = unwind("reconcile", domain, TOKEN_ENCRYPTION_KEYS=ANOTHER_KEY)
        assert no_key.status == 2 and "TOKEN_ENCRYPTION_KEYS" in no_key.err
        repaired = unwind("reconcile", domain, TOKEN_ENCRYPTION_KEYS=KEY)
        assert repaired.status == 1 and after_the_dump in repaired.out and "1 repaired" in repaired.out
        assert unwind("reconcile", domain).status == 0
        assert unwind("verify").status == 0
        assert points(url) == booked


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def ready(url: str, redis_url: str) -> bool:
    settings = load_settings(None, database_url=url, redis_url=redis_url, shopify_api_secret="hush")
    app = create_app(settings)
    answer = app.test_client().get("/readyz")
    app.extensions["unwind"].close()
    return answer.status_code == 200
