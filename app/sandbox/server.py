"""The pretend store over HTTP: a page, and JSON calls by which a person makes it sell and refund.

Each part of it is a blueprint. `front` is the page, `control` the calls; the consent page and the Admin API are
blueprints of their own and join in `create_sandbox`. One server may hold several stores.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeVar
from wsgiref.types import WSGIApplication

from flask import Blueprint, Flask, abort, current_app, g, jsonify, render_template_string, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.routing import UnicodeConverter
from werkzeug.serving import make_server

from app.sandbox.codes import CodeDiscount, CodeRefused
from app.sandbox.graphql import graphql
from app.sandbox.oauth import oauth
from app.sandbox.payloads import Json, body_of, money, order_payload
from app.sandbox.records import Discount, Item, Order, Presentment
from app.sandbox.shopfront import EXTENSION, Shopfront, address, current
from app.sandbox.shown import time_or_none
from app.sandbox.store import Store
from models.rules.money import to_minor

__all__ = ["Shopfront", "create_sandbox", "served"]

T = TypeVar("T")

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ store.domain }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #ddd}</style>
<h1>{{ store.domain }}</h1><p>A pretend store. {{ store.orders|length }} orders. Refund one:
<code>curl -X POST {{ address }}/control/orders/ID/refunds --json '{"amount": "5.00"}'</code></p>
<table><tr><th>Order<th>Id<th>What happened<th>Status<th>Total<th>Refunded</tr>
{% for o in orders %}<tr><td>{{ o.name }}<td>{{ o.id }}<td>{{ o.scenario }}<td>{{ o.financial_status }}
<td>{{ money(o, o.total_minor) }}<td>{{ money(o, o.refunded_minor) }}</tr>{% endfor %}</table></html>"""


front = Blueprint("front", __name__)
control = Blueprint("control", __name__, url_prefix="/control")


class ShopDomain(UnicodeConverter):
    """A path's first part that names a store: /lamps.myshopify.com/admin/..."""

    regex = r"[a-zA-Z0-9][a-zA-Z0-9-]*\.myshopify\.com"


def create_sandbox(*shopfronts: Shopfront) -> Flask:
    """The pretend stores as one WSGI application: each under /<its domain>/, the first one without that too."""
    app = Flask(__name__, static_folder=None)
    app.extensions[EXTENSION] = {shopfront.domain: shopfront for shopfront in shopfronts}
    app.url_map.converters["shop"] = ShopDomain
    for part in (front, control, oauth, graphql):
        own = part.url_prefix or ""
        app.register_blueprint(part)
        app.register_blueprint(part, name=f"shop_{part.name}", url_prefix=f"/<shop:domain>{own}")
    app.url_value_preprocessor(_choose_store)
    app.register_error_handler(HTTPException, _explain)
    return app


def _choose_store(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Takes the domain out of the path's values, so that views need not know of it."""
    g.domain = (values or {}).pop("domain", None)
    if g.domain is not None and g.domain not in current_app.extensions[EXTENSION]:
        abort(404, f"no store {g.domain}")


def _explain(error: HTTPException) -> ResponseReturnValue:
    return jsonify(error={"code": error.name, "message": error.description}), error.code or 500


@front.get("/")
def page() -> ResponseReturnValue:
    shopfront = current()
    with shopfront.lock:
        orders = list(shopfront.store.orders.values())
        return render_template_string(
            PAGE, store=shopfront.store, orders=orders, money=money, address=address()
        )


@control.get("/orders")
def list_orders() -> ResponseReturnValue:
    shopfront = current()
    with shopfront.lock:
        return jsonify(orders=[_summary(order) for order in shopfront.store.orders.values()])


@control.get("/orders/<int:order_id>")
def show_order(order_id: int) -> ResponseReturnValue:
    shopfront = current()
    with shopfront.lock:
        body = body_of(order_payload(_order(shopfront.store, order_id)))
    return current_app.response_class(body, mimetype="application/json")


@control.post("/orders")
def place_order() -> ResponseReturnValue:
    """`{"lines": [{"product_id", "quantity"}], "customer_id"?, "codes"?: [{"code", "amount"?}], "pay"?: true}`

    A code that is a discount of this store needs no amount, and must be usable; 422 says why it is not.
    """
    asked = _asked()
    with current().act() as store:
        try:
            order = store.place(
                customer=store.customers.get(_whole(asked, "customer_id", default=0)),
                basket=[
                    (_found(store.products, line, "product_id"), _whole(line, "quantity", default=1))
                    for line in _list(asked, "lines")
                ],
                discounts=[_code(store, code) for code in _list(asked, "codes", needed=False)],
                presentment=Presentment(store.currency, Fraction(1)),
                scenario="placed by hand",
            )
        except CodeRefused as refused:
            abort(422, str(refused))
        if asked.get("pay", True):
            store.pay(order)
        return jsonify(_summary(order)), 201


@control.post("/orders/<int:order_id>/refunds")
def refund_order(order_id: int) -> ResponseReturnValue:
    """`{"amount"}`, or `{"lines": [{"id", "quantity"}]}`, or nothing for all that is left."""
    asked = _asked()
    with current().act() as store:
        order = _order(store, order_id)
        if not order.captured_minor:
            abort(409, "nothing was paid for this order")
        if "amount" in asked:
            store.refund(order, amount_minor=_amount(store, asked))
        elif "lines" in asked:
            store.refund(order, units=[_units(order, line) for line in _list(asked, "lines")])
        else:
            _refund_the_rest(store, order)
        return jsonify(_summary(order)), 201


@control.post("/orders/<int:order_id>/cancel")
def cancel_order(order_id: int) -> ResponseReturnValue:
    """`{"refund": false}` keeps the money of a paid order."""
    asked = _asked()
    with current().act() as store:
        order = _order(store, order_id)
        if order.cancelled_at:
            abort(409, "this order is cancelled already")
        store.cancel(order, with_refund=bool(asked.get("refund", True)))
        return jsonify(_summary(order))


@control.post("/orders/<int:order_id>/pay")
def pay_order(order_id: int) -> ResponseReturnValue:
    with current().act() as store:
        order = _order(store, order_id)
        if not order.outstanding_minor:
            abort(409, "nothing is owed for this order")
        store.pay(order)
        return jsonify(_summary(order))


@control.get("/discounts")
def list_discounts() -> ResponseReturnValue:
    """The discounts with codes, with their true usage."""
    shopfront = current()
    with shopfront.lock:
        known = shopfront.store.codes.discounts.values()
        return jsonify(discounts=[_discount(shopfront, discount) for discount in known])


@control.post("/uninstall")
def uninstall() -> ResponseReturnValue:
    """The merchant takes the app out: its tokens are dead before it hears of it."""
    shopfront = current()
    with shopfront.act() as store:
        if not shopfront.access.installed:
            abort(409, "the app is not installed")
        shopfront.access.uninstall()
        store.tell("app/uninstalled", {"id": 1, "myshopify_domain": store.domain, "domain": store.domain})
        return jsonify(uninstalled=True)


def _discount(shopfront: Shopfront, discount: CodeDiscount) -> Json:
    return {
        "id": str(discount.id),
        "title": discount.title,
        "status": discount.status(shopfront.now()),
        "starts_at": time_or_none(discount.starts_at),
        "ends_at": time_or_none(discount.ends_at),
        "usage_limit": discount.usage_limit,
        "once_per_customer": discount.once_per_customer,
        "customers": None if discount.customers is None else [str(id) for id in sorted(discount.customers)],
        "codes": [{"code": c.code, "orders": [str(use.order_id) for use in c.uses]} for c in discount.codes],
    }


def _code(store: Store, asked: Mapping[str, Any]) -> Discount:
    code = str(asked.get("code") or "") or abort(422, "code: a text is needed")
    known = store.codes.find(code) is not None and "amount" not in asked
    return Discount(title=code, code=code, amount_minor=0 if known else _amount(store, asked))


def _refund_the_rest(store: Store, order: Order) -> None:
    left = order.captured_minor - order.refunded_minor
    if left <= 0:
        abort(409, "all of this order's money went back already")
    units = [(item, item.current_quantity) for item in order.items if item.current_quantity]
    shipping = order.shipping_minor - order.refunded_shipping_minor
    store.refund(order, units=units, shipping_minor=shipping, amount_minor=left)


def _order(store: Store, order_id: int) -> Order:
    return store.orders.get(order_id) or abort(404, f"no order {order_id}")


def _units(order: Order, line: Mapping[str, Any]) -> tuple[Item, int]:
    item = _found({item.id: item for item in order.items}, line, "id")
    units = _whole(line, "quantity", default=1)
    if not 0 < units <= item.current_quantity:
        abort(422, f"line {item.id} has {item.current_quantity} units left")
    return item, units


def _found(known: Mapping[int, T], asked: Mapping[str, Any], name: str) -> T:
    return known.get(_whole(asked, name)) or abort(422, f"{name}: none is {asked[name]}")


def _asked() -> Json:
    asked = request.get_json(silent=True) if request.data else {}
    return asked if isinstance(asked, dict) else abort(400, "a JSON object is needed")


def _list(asked: Mapping[str, Any], name: str, *, needed: bool = True) -> list[Json]:
    found = asked.get(name, None if needed else [])
    if (
        not isinstance(found, list)
        or not all(isinstance(entry, dict) for entry in found)
        or (needed and not found)
    ):
        abort(422, f"{name}: a list of objects is needed")
    return found


def _whole(asked: Mapping[str, Any], name: str, *, default: int | None = None) -> int:
    try:
        return int(str(asked.get(name, default)))
    except ValueError:
        abort(422, f"{name}: a whole number is needed")


def _amount(store: Store, asked: Mapping[str, Any]) -> int:
    try:
        minor = to_minor(Decimal(str(asked.get("amount"))), store.currency)
    except (InvalidOperation, OverflowError, ValueError):
        abort(422, 'amount: a decimal string such as "5.00" is needed')
    return minor if minor > 0 else abort(422, "amount: more than zero is needed")


def _summary(order: Order) -> Json:
    return {
        "id": str(order.id),
        "name": order.name,
        "scenario": order.scenario,
        "financial_status": order.financial_status,
        "cancelled": order.cancelled_at is not None,
        "total": money(order, order.total_minor),
        "refunded": money(order, order.refunded_minor),
        "currency": order.currency,
        "lines": [{"id": str(item.id), "left": item.current_quantity} for item in order.items],
        "refunds": [str(refund.id) for refund in order.refunds],
    }


@contextmanager
def served(app: WSGIApplication, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves the application from a thread for as long as the block runs; gives its URL. Port 0 takes a free one."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(host, port, app, threaded=True)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="sandbox", daemon=True
    )
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
