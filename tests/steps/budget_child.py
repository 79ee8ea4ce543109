"""A process that reserves from one shop's bucket as often as it can, and prints how much it got."""

from __future__ import annotations

import sys

from redis import Redis

from models.errors import ShopifyThrottled
from tasks.gateway.budget import Budget
from tasks.gateway.documents import document


def main(url: str, domain: str, tries: int) -> None:
    with Redis.from_url(url) as redis:
        budget, got = Budget(redis), 0
        for _ in range(tries):
            try:
                budget.reserve(domain, document("shop"))
                got += 1
            except ShopifyThrottled:
                continue
    print(got)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
