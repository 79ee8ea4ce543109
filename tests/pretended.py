"""A gateway to a pretend store in this process: documents are executed as over the wire, without a socket or a token's
dance. For what is about orders; what is about the wire has tests of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from app.sandbox.server import Shopfront, create_sandbox
from app.sandbox.store import Store
from models.errors import ShopifyRefused, UserError
from tasks.gateway.documents import document
from tasks.steps.load import ShopRow

SCOPES = ("read_orders", "read_all_orders", "read_customers")
ENOUGH = 10**9  # points of the rate limit


class PretendGateway:
    """`calls`: the documents sent, in order. `before`: called with each document's name before it is answered."""

    def __init__(self, store: Store, *, scopes: tuple[str, ...] = SCOPES) -> None:
        self.shopfront = Shopfront(store, deliver=lambda sent: None, clock=lambda: datetime.now(UTC))
        self.shopfront.bucket.maximum = ENOUGH
        self.client = create_sandbox(self.shopfront).test_client()
        self.token = str(self.shopfront.access.fresh(scopes, expiring=False)["access_token"])
        self.calls: list[str] = []

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        self.calls.append(document_name)
        answer = self.client.post(
            "/admin/api/2026-10/graphql.json",
            json={"query": document(document_name).text, "variables": dict(variables)},
            headers={"X-Shopify-Access-Token": self.token},
        ).get_json()
        if answer.get("errors"):
            errors = [UserError(None, (), error["message"]) for error in answer["errors"]]
            raise ShopifyRefused(document_name, errors)
        data: dict[str, Any] = answer["data"]
        return data

    def download(self, url: str) -> Iterator[bytes]:
        yield from self.client.get(urlsplit(url).path).data.splitlines()
