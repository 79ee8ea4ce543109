"""The pretend store's Admin API: documents are executed over the subset of Shopify's schema in admin.graphql.

An answer has Shopify's layers: HTTP status, `errors`, `userErrors` in the payloads, and `extensions.cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, current_app, jsonify, request
from flask.typing import ResponseReturnValue
from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
)

from app.sandbox.access import Held
from app.sandbox.admin_discounts import Discounts
from app.sandbox.admin_orders import Orders, customer, denied
from app.sandbox.faults import before, hang_up
from app.sandbox.limits import MOST_OF_ONE_CALL, cost_of
from app.sandbox.schema import schema
from app.sandbox.shopfront import Shopfront, address, current
from app.sandbox.shown import UNPAGED, Node, connection, gid, id_of

NO_TOKEN = "[API] Invalid API key or access token (unrecognized login or wrong password)"  # noqa: S105
FOREVER = "[API] Non-expiring access tokens are no longer accepted for the Admin API. Use expiring tokens."
THROTTLED = {
    "message": "Throttled",
    "extensions": {"code": "THROTTLED", "documentation": "https://shopify.dev/api/usage/rate-limits"},
}
SCOPES = {
    "order": "read_orders",
    "orders": "read_orders",
    "refund": "read_orders",
    "customer": "read_customers",
    "customerByIdentifier": "read_customers",
    "codeDiscountNodeByCode": "read_discounts",
    "discountCodeBasicCreate": "write_discounts",
    "discountCodeBasicUpdate": "write_discounts",
    "discountCodeFreeShippingCreate": "write_discounts",
    "discountCodeFreeShippingUpdate": "write_discounts",
    "discountCodeActivate": "write_discounts",
    "discountCodeDeactivate": "write_discounts",
    "discountCodeDelete": "write_discounts",
    "discountRedeemCodeBulkAdd": "write_discounts",
}

Resolver = Callable[..., Any]
graphql = Blueprint("graphql", __name__)


@graphql.post("/admin/api/<version>/graphql.json")
def admin_api(version: str) -> ResponseReturnValue:
    shopfront = current()
    asked = request.get_json(silent=True)
    asked = asked if isinstance(asked, dict) else {}
    name = operation_name(asked)
    with shopfront.lock:
        shopfront.calls.append(name)
    fault = shopfront.faults.take(name)
    instead = before(fault)
    if instead is not None:
        return jsonify(instead[0]), instead[1]
    held = shopfront.access.held(request.headers.get("X-Shopify-Access-Token", ""))
    if held is None:
        return jsonify(errors=NO_TOKEN), 401
    if held.expires_at is None and not shopfront.forever_tokens:
        return jsonify(errors=FOREVER), 403
    body, status = Call(shopfront, held, version, address()).answer(asked)
    if fault is not None and fault.kind == "lost":
        hang_up()
    answer = current_app.json.response(body)
    answer.headers["X-Shopify-API-Version"] = version
    if status == 429:
        answer.headers["Retry-After"] = "2.0"
    return answer, status


@graphql.get("/bulk-results/<int:id>.jsonl")
def bulk_result(id: int) -> ResponseReturnValue:
    """The file of a bulk operation. Its address is all that it takes, as with Shopify's signed addresses."""
    shopfront = current()
    with shopfront.lock:
        known = shopfront.bulk.all.get(id)
        lines = None if known is None else known.lines
    if lines is None:
        return jsonify(error="no such file"), 404
    return current_app.response_class("".join(line + "\n" for line in lines), mimetype="application/jsonl")


def operation_name(asked: Mapping[str, Any]) -> str:
    """The name of the operation that is asked for; empty when it has none or cannot be read."""
    try:
        operation = get_operation_ast(parse(str(asked.get("query", ""))), asked.get("operationName"))
    except GraphQLError:
        return ""
    return operation.name.value if operation is not None and operation.name is not None else ""


class Call:
    """One call of one holder of a token."""

    def __init__(self, shopfront: Shopfront, held: Held, version: str, base: str) -> None:
        self.shopfront, self.held, self.version, self.base = shopfront, held, version, base

    def answer(self, asked: Mapping[str, Any]) -> tuple[Node, int]:
        variables = asked.get("variables") or {}
        try:
            document = parse(str(asked.get("query", "")))
        except GraphQLError as error:
            return {"errors": [error.formatted]}, 200
        errors = validate(schema(), document)
        operation = get_operation_ast(document, asked.get("operationName"))
        if errors or operation is None:
            return {"errors": [_undefined(e) for e in errors] or [{"message": "No operation"}]}, 200
        with self.shopfront.act():
            return self._paid(document, operation, variables)

    def _paid(
        self, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]
    ) -> tuple[Node, int]:
        shopfront, bucket = self.shopfront, self.shopfront.bucket
        cost = cost_of(document, operation, variables)
        if cost > MOST_OF_ONE_CALL:
            return {"errors": [_too_dear(cost)]}, 200
        until = shopfront.faults.throttled_until
        if (until is not None and shopfront.now() < until) or not bucket.pay(cost):
            if shopfront.faults.throttled_status == 429:
                return {"errors": "Exceeded the rate limit. Slow down."}, 429
            shown = bucket.shown(requested=cost, actual=None)
            if until is not None and shopfront.now() < until:
                shown["throttleStatus"]["currentlyAvailable"] = 0
            return {"data": None, "errors": [THROTTLED], "extensions": {"cost": shown}}, 200
        body = self._executed(document, operation, variables)
        actual = cost_of(document, operation, variables, body.get("data") or {})
        bucket.give_back(max(0, cost - actual))
        return {**body, "extensions": {"cost": bucket.shown(requested=cost, actual=actual)}}, 200

    def _executed(
        self,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: Mapping[str, Any],
        *,
        unpaged: bool = False,
    ) -> Node:
        writing = operation.operation is OperationType.MUTATION
        root = self._mutations() if writing else self._queries()
        result = execute_sync(
            schema(),
            document,
            root_value={name: self._guarded(name, resolve) for name, resolve in root.items()},
            context_value={UNPAGED: unpaged},
            variable_values=dict(variables),
            operation_name=operation.name.value if operation.name else None,
        )
        body = dict(result.formatted)
        if result.errors and any(error.path is None for error in result.errors):
            body.pop("data", None)  # a variable was wrong: nothing was executed
        return body

    def _guarded(self, name: str, resolve: Resolver) -> Resolver:
        needed = SCOPES.get(name)
        if needed is None or self.may(needed):
            return resolve

        def refuse(info: Any, **_: Any) -> Any:
            raise denied(name, needed)

        return refuse

    def may(self, scope: str) -> bool:
        """A write scope implies reading."""
        return scope in self.held.scopes or scope.replace("read_", "write_", 1) in self.held.scopes

    # -- the fields of the root ----------------------------------------------------------------------------------

    @property
    def discounts(self) -> Discounts:
        return Discounts(self.shopfront.store)

    @property
    def orders(self) -> Orders:
        return Orders(
            self.shopfront.store,
            self.shopfront.now(),
            all_of_them=self.may("read_all_orders"),
            customers=self.may("read_customers"),
        )

    def _queries(self) -> dict[str, Resolver]:
        return {
            "shop": self._shop,
            "currentAppInstallation": self._installation,
            "node": self._node,
            "order": self.orders.one,
            "orders": self.orders.many,
            "refund": self.orders.refund,
            "customer": self._customer,
            "customerByIdentifier": self._customer_by,
            "codeDiscountNodeByCode": self.discounts.by_code,
            "webhookSubscriptions": self._subscriptions,
            "bulkOperation": lambda info, id: self._bulk(id_of(id, "BulkOperation")),
            "bulkOperations": self._bulks,
        }

    def _mutations(self) -> dict[str, Resolver]:
        discounts = self.discounts
        return {
            "discountCodeBasicCreate": discounts.create,
            "discountCodeBasicUpdate": discounts.update,
            "discountCodeFreeShippingCreate": discounts.create,
            "discountCodeFreeShippingUpdate": discounts.update,
            "discountCodeActivate": discounts.activate,
            "discountCodeDeactivate": discounts.deactivate,
            "discountCodeDelete": discounts.delete,
            "discountRedeemCodeBulkAdd": discounts.bulk_add,
            "webhookSubscriptionCreate": self._subscribe,
            "webhookSubscriptionUpdate": self._resubscribe,
            "webhookSubscriptionDelete": self._unsubscribe,
            "bulkOperationRunQuery": self._bulk_run,
            "bulkOperationCancel": self._bulk_cancel,
        }

    def _shop(self, info: Any) -> Node:
        store = self.shopfront.store
        return {
            "id": gid("Shop", 1),
            "name": store.domain.removesuffix(".myshopify.com"),
            "myshopifyDomain": store.domain,
            "currencyCode": store.currency,
            "ianaTimezone": "America/New_York",
            "taxesIncluded": False,
            "plan": {"partnerDevelopment": True, "shopifyPlus": False, "publicDisplayName": "Development"},
        }

    def _installation(self, info: Any) -> Node:
        return {
            "id": gid("AppInstallation", 1),
            "app": {"id": gid("App", 1), "apiKey": self.shopfront.application.key, "title": "Unwind"},
            "accessScopes": [
                {"handle": scope, "description": scope.replace("_", " ").capitalize()}
                for scope in sorted(self._all_scopes())
            ],
        }

    def _all_scopes(self) -> set[str]:
        """Those that write scopes imply are listed too."""
        implied = {scope.replace("write_", "read_", 1) for scope in self.held.scopes}
        return implied | set(self.held.scopes)

    def _node(self, info: Any, id: str) -> Node | None:
        kind = str(id).removeprefix("gid://shopify/").partition("/")[0]
        if kind == "Order" and self.may("read_orders"):
            return self.orders.by_id(id_of(id, "Order"))
        if kind == "DiscountCodeNode" and self.may("read_discounts"):
            return self.discounts.by_id(id_of(id, "DiscountCodeNode"))
        if kind == "BulkOperation":
            return self._bulk(id_of(id, "BulkOperation"))
        if kind == "WebhookSubscription":
            known = self.shopfront.subscriptions.all.get(id_of(id, kind))
            return None if known is None else known.shown()
        if kind == "Customer" and self.may("read_customers"):
            return self._customer(info, id)
        return None

    def _customer(self, info: Any, id: str) -> Node | None:
        number = id_of(id, "Customer")
        return customer(number) if number in self.shopfront.store.customers else None

    def _customer_by(self, info: Any, identifier: Mapping[str, str]) -> Node | None:
        """Exactly one of `id`, `emailAddress` and `phoneNumber` is given; addresses are compared without their case."""
        ((what, value),) = identifier.items()
        if what == "id":
            return self._customer(info, value)
        wanted = value.strip().lower()
        for each in self.shopfront.store.customers.values():
            if wanted == {"emailAddress": each.email, "phoneNumber": each.phone}[what]:
                return customer(each.id)
        return None

    # -- subscriptions -------------------------------------------------------------------------------------------

    def _subscriptions(self, info: Any, **asked: Any) -> Node:
        topics, uri = asked.get("topics"), asked.get("uri")
        found = [
            s.shown()
            for s in self.shopfront.subscriptions.all.values()
            if (not topics or s.topic in topics) and (uri is None or s.uri == uri)
        ]
        page: Node = connection(found, key=lambda node: node["id"])(info, **asked)
        return page

    def _subscribe(self, info: Any, topic: str, webhookSubscription: Mapping[str, Any]) -> Node:
        made, errors = self.shopfront.subscriptions.create(topic, webhookSubscription, self.version)
        return {"webhookSubscription": made.shown() if made else None, "userErrors": errors}

    def _resubscribe(self, info: Any, id: str, webhookSubscription: Mapping[str, Any]) -> Node:
        number = id_of(id, "WebhookSubscription")
        known, errors = self.shopfront.subscriptions.update(number, webhookSubscription)
        return {"webhookSubscription": known.shown() if known else None, "userErrors": errors}

    def _unsubscribe(self, info: Any, id: str) -> Node:
        errors = self.shopfront.subscriptions.delete(id_of(id, "WebhookSubscription"))
        return {"deletedWebhookSubscriptionId": None if errors else id, "userErrors": errors}

    # -- bulk operations -----------------------------------------------------------------------------------------

    def _bulk_run(self, info: Any, query: str, groupObjects: bool) -> Node:
        made, errors = self.shopfront.bulk.start(query, schema())
        return {"bulkOperation": made.shown(self.base) if made else None, "userErrors": errors}

    def _bulk(self, id: int) -> Node | None:
        known = self.shopfront.bulk.poll(id, self._run_unpaged)
        return None if known is None else known.shown(self.base)

    def _bulks(self, info: Any, **asked: Any) -> Node:
        found = [self._bulk(id) or {} for id in self.shopfront.bulk.all]
        page: Node = connection(found, key=lambda node: node["id"])(info, **asked)
        return page

    def _bulk_cancel(self, info: Any, id: str) -> Node:
        known = self.shopfront.bulk.cancel(id_of(id, "BulkOperation"))
        missing = {"field": ["id"], "message": "Bulk operation does not exist"}
        return {
            "bulkOperation": known.shown(self.base) if known else None,
            "userErrors": [] if known else [missing],
        }

    def _run_unpaged(self, query: str) -> dict[str, Any]:
        document = parse(query)
        operation = get_operation_ast(document)
        assert operation is not None, "it was looked at when the operation was started"
        result = self._executed(document, operation, {}, unpaged=True)
        data: dict[str, Any] = result["data"]
        return data


def _too_dear(cost: int) -> Node:
    return {
        "message": f"Query cost is {cost}, which exceeds the single query max cost limit ({MOST_OF_ONE_CALL}).",
        "extensions": {"code": "MAX_COST_EXCEEDED", "cost": cost, "maxCost": MOST_OF_ONE_CALL},
    }


def _undefined(error: GraphQLError) -> Mapping[str, Any]:
    """As Shopify says that a document does not fit its schema."""
    formatted = dict(error.formatted)
    formatted["extensions"] = {"code": "undefinedField"} if "Cannot query field" in error.message else {}
    return formatted
