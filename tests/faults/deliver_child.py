"""Delivers, and dies by SIGKILL at a chosen moment. `python -m tests.faults.deliver_child DATABASE_URL DOMAIN MOMENT`.

MOMENT: leased (the leases are committed, nothing is sent), sent (the other side has answered, nothing is booked), or
booked (of one delivery; the others are sent, and not booked).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from models.session import make_engine
from tasks.gateway.outgoing import Outcome, Outgoing
from tasks.steps import deliveries
from tasks.steps.vault import Vault
from tests.flows.listening import HERE, KEY_OF_CHILDREN


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(Outgoing):
    def __init__(self, moment: str) -> None:
        super().__init__(HERE)
        self.moment = moment

    def post(self, *arguments: Any) -> Outcome:
        if self.moment == "leased":
            die()
        outcome = super().post(*arguments)
        if self.moment == "sent":
            die()
        return outcome


def main() -> None:
    url, domain, moment = sys.argv[1:]

    def count(outcome: str) -> None:
        if moment == "booked":
            die()

    deliveries.deliver(make_engine(url), Dying(moment), Vault([KEY_OF_CHILDREN]), domain, count=count)
    raise AssertionError("it lived")


if __name__ == "__main__":
    main()
