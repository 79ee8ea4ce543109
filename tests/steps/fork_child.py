"""Asks a store, forks, and asks again in both: neither may use the other's connection. `fork_child.py BASE_URL`."""

from __future__ import annotations

import os
import sys

from models.settings import Settings
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tasks.steps.load import ShopRow

SHOP = ShopRow(7, "fork-tests.myshopify.com", "EUR")


def main(base: str) -> None:
    gateway = Shopify(Settings(shopify_base_url=base), GivenToken(SHOP.domain, "a-token"))
    gateway.run(SHOP, "shop", {})
    child = os.fork()
    gateway.run(SHOP, "shop", {})
    if child:
        assert os.waitpid(child, 0)[1] == 0
        gateway.run(SHOP, "shop", {})


if __name__ == "__main__":
    main(sys.argv[1])
