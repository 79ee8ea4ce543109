"""Dies by SIGKILL at chosen points of taking a code away at Shopify. `python -m tests.faults.removal_child DATABASE_URL`.

One line a death on standard input, a JSON object: the shop's `domain`, the outbox's `row`, the `point`, and how to reach
the store (`base_url`, `token`). Points are what `crash_child` counts, and each call of Shopify before it is sent and after
its answer came. The answer is the label of the point; for LIVES, all that were passed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import structlog

from models.session import make_engine
from models.settings import load_settings
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tasks.steps import codes, outbox
from tasks.steps.load import ShopRow
from tests.faults.crash_child import LIVES, Passage


class Watched:
    """The gateway, with a point on either side of each call."""

    def __init__(self, gateway: Shopify, passage: Passage) -> None:
        self.gateway, self.passage = gateway, passage

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        self.passage.point(f"before {document_name}")
        data = self.gateway.run(shop, document_name, variables, background=background)
        self.passage.point(f"after {document_name}")
        return data


def live_or_die(url: str, asked: Mapping[str, Any], answer: int) -> None:
    """In a process of its own: the row, up to its chosen end."""
    settings = load_settings(None, shopify_base_url=asked["base_url"])
    engine, passage = make_engine(url), Passage(asked["point"], answer)
    gateway = Watched(Shopify(settings, GivenToken(asked["domain"], asked["token"])), passage)
    passage.watch(engine)
    outbox.work(
        engine,
        asked["domain"],
        asked["row"],
        lambda leased: codes.remove(engine, gateway, leased),
        give_up=codes.remove_given_up,
    )
    passage.point("after all")
    passage.say(passage.passed)


def main() -> None:
    url = sys.argv[1]
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )  # answers are all that is printed
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            live_or_die(url, asked, sys.stdout.fileno())
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) == (asked["point"] != LIVES), f"{asked} was not reached"


if __name__ == "__main__":
    main()
