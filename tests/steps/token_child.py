"""A worker's process that needs one shop's token: `python token_child.py DATABASE_URL SHOP_ID DOMAIN [hang]`.

Prints `answered` when Shopify answered, then the token it uses. With `hang` it stays between the two for ever, before
anything is stored: to be killed there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from models.session import make_engine
from models.settings import load_settings
from tasks.gateway.tokens import StoredTokens
from tasks.steps.load import ShopRow
from tests.steps.token_server import post_form


def main(database_url: str, shop_id: str, domain: str, *hang: str) -> None:
    def posting(url: str, fields: Mapping[str, str]) -> tuple[int, Any]:
        answer = post_form(url, fields)
        print("answered", flush=True)
        if hang:
            time.sleep(600)
        return answer

    tokens = StoredTokens(make_engine(database_url), load_settings(), posting, lock_wait_seconds=60)
    print(tokens.token(ShopRow(int(shop_id), domain, None)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
