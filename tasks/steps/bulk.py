"""Orders by a bulk operation: for many at once, without a page's price. Shopify runs the query and writes a file.

start -> wait until the file is there -> read it line by line, each order with its children -> compare as any reading.
A bulk operation cannot say what is in an order's refunds (documents/bulk_orders.graphql), so an order that has some is
read once more by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Engine, text

from models.errors import ShopifyRefused, Unparseable, UserError
from tasks.gateway.answers import accepted
from tasks.gateway.documents import document
from tasks.steps.load import ShopRow
from tasks.steps.parse.graphql import body_of
from tasks.steps.reads import Body
from tasks.steps.reconcile import CHUNK, BulkGateway, Progress, Run, begun, deal_with, read_whole, stamp

Node = dict[str, Any]

SINCE = "1970-01-01T00:00:00Z"  # stands in the document, which takes no variables
POLL_SECONDS = (1, 2, 3, 5, 10)  # between two looks at an operation; the last one on and on
OVER = ("FAILED", "CANCELED", "EXPIRED")
STARTED = text("update reconciliations set bulk_operation = :operation where shop_id = :shop_id and id = :id")


def reconcile_in_bulk(
    engine: Engine,
    gateway: BulkGateway,
    shop: ShopRow,
    *,
    since: datetime | None = None,
    history: bool = False,
    progress: Progress = lambda done, total: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Run:
    """Compare every order that changed since `since` (60 days before the store was added), and repair.

    Memory is bounded by one chunk of orders, whatever the file's size. An interrupted run goes on with the same
    operation, after the orders that were dealt with. Raises as `reconcile` does, and ShopifyRefused when the operation
    ends without a result.
    """
    with begun(engine, gateway, shop, "import", since, None, None) as run:
        run.history, run.progress = history, progress
        url = _result(run, run.bulk_operation or _start(run), sleep)
        done = int(run.cursor or 0)
        orders = islice(grouped(gateway.download(url) if url else ()), done, None)
        while chunk := list(islice(orders, CHUNK)):
            done += len(chunk)
            bodies = [body for order in chunk for body in _bodies(run, order)]
            deal_with(run, bodies, seen=len(chunk), cursor=str(done))
        run.finished = True
    return run


def _start(run: Run) -> str:
    """Ask for the operation, and note it before anything else: a run that is interrupted must find it again."""
    query = document("bulk_orders").text.replace(SINCE, stamp(run.since))
    data = run.gateway.run(run.shop, "bulk_run", {"query": query}, background=True)
    id: str = accepted(data, "bulkOperationRunQuery")["bulkOperation"]["id"]
    with run.engine.begin() as connection:
        connection.execute(STARTED, {"operation": id, "shop_id": run.shop.id, "id": run.id})
    run.bulk_operation = id
    return id


def _result(run: Run, id: str, sleep: Callable[[float], None]) -> str | None:
    """Wait for the operation's end; the address of its file, None when there was nothing to write."""
    waits = iter(POLL_SECONDS)
    while True:
        found = run.gateway.run(run.shop, "bulk_operation", {"id": id}, background=True)["bulkOperation"]
        status = "EXPIRED" if found is None else found["status"]
        if status == "COMPLETED":
            url: str | None = found["url"]
            return url
        if status in OVER:
            code = (found or {}).get("errorCode") or status
            raise ShopifyRefused("bulk_operation", [UserError(code, (), "ended without a result")])
        sleep(next(waits, POLL_SECONDS[-1]))


def grouped(lines: Iterable[bytes]) -> Iterator[Node]:
    """Orders with their children, which follow them in the file (`groupObjects`). Raises Unparseable."""
    order: Node | None = None
    for line in lines:
        try:
            node = json.loads(line, parse_float=str)
        except ValueError:
            raise Unparseable("bulk result", "holds a line that is not JSON") from None
        if "__parentId" not in node:
            if order is not None:
                yield order
            order = {**node, "lineItems": {"nodes": []}, "discountApplications": {"nodes": []}}
        elif order is None or node["__parentId"] != order["id"]:
            raise Unparseable("bulk result", "holds a line whose order is not the one before it")
        else:
            order["lineItems" if "quantity" in node else "discountApplications"]["nodes"].append(node)
    if order is not None:
        yield order


def _bodies(run: Run, order: Node) -> list[Body]:
    """The order as it would be read by itself."""
    id = int(order["legacyResourceId"])
    if order["refunds"]:
        return read_whole(run, id, order["name"])
    return [Body(id, body_of(order))]
