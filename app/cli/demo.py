"""`unwind demo`: the main job on embedded parts, nothing else installed.

A pretend Shopify store sells and refunds, its webhooks come signed, repeated and out of order to a real receiver, and
the worker keeps the loyalty books. What each refund did is printed, then what was checked. Every run has a shop of
its own, so demos can be repeated on the same data.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import click
from sqlalchemy import Engine, text

from app.cli.context import (
    Session,
    data_option_at,
    ended_by_sigterm,
    in_force,
    json_option,
    note,
    only_trouble_logged,
)
from app.cli.demo_checks import Outcome, checks_of, deeds_of, effects_of, replayed, untouched
from app.cli.demo_show import Show, show_for
from app.cli.demo_story import Story, books, echo, lose, open_shop, redeem, sell, shop_again, spend, unwind
from app.cli.up import children
from app.sandbox.access import Application
from app.sandbox.sender import WELL_BEHAVED, Sender
from app.sandbox.server import Shopfront, create_sandbox, served
from app.sandbox.store import Delivery
from app.sandbox.world import World
from models.errors import InvalidSetting, UnwindError
from models.session import make_engine, upgrade
from models.settings import load_settings
from worker.embedded import parts
from worker.supervisor import Child, Supervisor

HELD, BROKEN, INTERRUPTED = 0, 1, 130
LOOPBACK = "127.0.0.1"
DATA = Path(
    ".unwind-demo"
)  # not where `unwind up` keeps real stores: pretend ones must not be asked of Shopify
DEFAULT_SEED = 1
DEMO_STORE = r"^demo-[0-9]{1,6}-[0-9]{14}-[0-9a-f]{4}\.myshopify\.com$"  # as `new_domain` names them
REAL_STORE = text(
    "select domain from shops where state = 'installed' and domain !~ :demo order by id limit 1"
)
USAGE_SHOWN_AFTER = timedelta(seconds=3)  # Shopify counts how often a code was used, late


@click.command()
@click.option(
    "--orders", type=click.IntRange(1, 2000), default=40, show_default=True, help="Orders to place."
)
@click.option(
    "--refunds", type=click.IntRange(0, 5000), default=60, show_default=True, help="Refunds to make."
)
@click.option(
    "--seed", type=int, default=DEFAULT_SEED, show_default=True, help="The same seed is the same world."
)
@click.option("--once", is_flag=True, help="End after the summary; status 0 only if every check held.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the receiver.  [default: a free one]")
@data_option_at(DATA)
@json_option
def demo(
    orders: int, refunds: int, seed: int, once: bool, port: int | None, data: Path, as_json: bool
) -> int:
    """Show the main job: a pretend store, refunds, and what came of them."""
    world = World(domain=new_domain(seed), seed=seed, orders=orders, refunds=refunds)
    show = show_for(as_json=as_json)
    ours = application(port or free_port())
    with (
        show,
        ended_by_sigterm(),
        only_trouble_logged(logging.ERROR),  # what a comparison finds is the demo's own doing
        pretend_store(world, ours) as store,
        demo_session(data, show, ours, store_url=store.url) as here,
    ):
        show.say(here.parts.describe())
        return played(here, store, show, data, once=once)


def new_domain(seed: int) -> str:
    """A shop that no demo had before."""
    return f"demo-{abs(seed) % 10**6}-{time.strftime('%Y%m%d%H%M%S')}-{secrets.token_hex(2)}.myshopify.com"


def application(port: int) -> Application:
    """The app that the pretend store knows: this demo's own, at its own address."""
    return Application(secrets.token_hex(16), [secrets.token_hex(16)], f"http://{LOOPBACK}:{port}")


@dataclass
class PretendStore:
    """The world, its front, and where it answers. `sender` is there as soon as there is a receiver to send to."""

    world: World
    shopfront: Shopfront
    url: str = ""
    sender: Sender | None = None

    def deliver(self, sent: list[Delivery]) -> None:
        """What somebody does at the store by hand is told at once, without making them wait."""
        if sent and self.sender is not None:
            threading.Thread(target=self.sender.send_all, args=(sent,), daemon=True).start()


@contextmanager
def pretend_store(world: World, known: Application) -> Iterator[PretendStore]:
    """The store over HTTP, on a port of its own."""
    shopfront = Shopfront(world.store, deliver=lambda sent: store.deliver(sent), application=known)
    shopfront.subscriptions.plain_http = True
    world.store.codes.lag = USAGE_SHOWN_AFTER
    store = PretendStore(world, shopfront)
    with served(create_sandbox(shopfront), host=LOOPBACK) as url:
        store.url = url
        yield store


@contextmanager
def demo_session(data: Path, show: Show, known: Application, *, store_url: str) -> Iterator[Session]:
    """Embedded parts, whatever database and broker the environment names: a demo must not write into those."""
    settings = load_settings(
        None,
        host=LOOPBACK,
        port=urlsplit(known.app_url).port,
        shopify_api_key=known.key,
        shopify_api_secret=known.secrets[0],
        shopify_app_url=known.app_url,
        shopify_base_url=store_url,
    ).model_copy(update={"database_url": None, "redis_url": None})
    show.say("starting the database and the broker")
    with parts(settings, data, command="unwind demo", lasting=True, say=note) as found:
        ours = in_force(settings, found, data)
        upgrade(found.database_url)
        engine = make_engine(found.database_url)
        try:
            without_real_stores(engine, data)
            yield Session(ours, found, engine)
        finally:
            engine.dispose()


def without_real_stores(engine: Engine, data: Path) -> None:
    """Refuse a folder in which a real store is kept: the demo's worker would send its tokens to the pretend one.

    For the same reason the demo owns its data while it runs (`lasting`): `unwind up` cannot run on them meanwhile.
    """
    with engine.connect() as connection:
        found = connection.execute(REAL_STORE, {"demo": DEMO_STORE}).scalar_one_or_none()
    if found is not None:
        raise InvalidSetting("--data", f"{data} is the folder of {found}; give the demo one of its own")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def family(here: Session, data: Path) -> list[Child]:
    """Receiver, worker and scheduler as `unwind up` runs them; what they print goes to files beside the data."""
    return [replace(child, log=data / f"demo-{child.name}.log") for child in children(here, flower=False)]


def tell(story: Story, show: Show) -> Outcome:
    """From an empty shop to the checks. Raises Refused when the product does not come up, answer or finish."""
    started = time.monotonic()
    open_shop(story)
    show.say(f"{story.domain} has installed the app; its pretend store is {story.store_url}/")
    redeem(story, show)
    withheld = sell(story, show)
    spend(story)
    unwind(story, withheld, show)
    shop_again(story, show)
    lose(story, show)
    standing = books(story)
    echo(story, show)
    echoed = books(story)
    deeds = deeds_of(story)
    checks = [
        *checks_of(story, deeds),
        untouched("webhooks delivered again under new ids changed nothing", standing, echoed),
        replayed(story),
        untouched("nor did the replay", echoed, books(story)),
    ]
    return Outcome(story, effects_of(story, deeds), checks, time.monotonic() - started)


@dataclass
class Director:
    """Tells the story in a thread of its own, while the main thread keeps the processes running."""

    story: Story
    show: Show
    once: bool
    status: int = INTERRUPTED
    over: bool = False
    called_off: Callable[[], bool] = lambda: False

    def run(self) -> None:
        try:
            outcome = tell(self.story, self.show)
            self.show.outcome(outcome)
            self.status = HELD if outcome.held else BROKEN
            self.over = self.once
            if not self.once:
                self.show.stays_up(self.story)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """One line for what we know, the whole stack for what we do not; silence when the demo is ending anyway."""
        if self.called_off():
            return
        known = isinstance(error, UnwindError)
        self.show.say(f"unwind: {error}" if known else traceback.format_exc())
        self.show.say(f"what the processes printed is in {self.story.logs}/demo-*.log")
        self.status, self.over = BROKEN, True


def played(here: Session, store: PretendStore, show: Show, data: Path, *, once: bool) -> int:
    """The status of the demo, once its processes have ended."""
    story = Story(here.settings, here.engine, store.world, store.shopfront, store.url, data)
    store.sender = story.sender(WELL_BEHAVED)
    director = Director(story, show, once)

    def tick() -> None:
        for line in here.parts.revive():
            show.say(line)
        if director.over:
            supervisor.stop()

    supervisor = Supervisor(family(here, data), show.say, tick)
    director.called_off = lambda: supervisor.stopping
    threading.Thread(target=director.run, name="director", daemon=True).start()
    supervisor.run()
    return director.status
