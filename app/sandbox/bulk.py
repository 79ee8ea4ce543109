"""Bulk operations: a query over everything, its result a file of one JSON object a line, children after parents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from graphql import (
    FieldNode,
    GraphQLSchema,
    OperationDefinitionNode,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    get_named_type,
    is_list_type,
    is_object_type,
    parse,
    visit,
)
from graphql.error import GraphQLError
from graphql.type import get_nullable_type

from app.sandbox.shown import Node, gid, time, time_or_none

FIRST_ID = 3_900_000_000_001
AT_ONCE = 5  # running at the same time, of one app at one store
NO_CONNECTION = "Bulk queries must contain at least one connection."
IN_A_LIST = "Queries that contain a connection field within a list field are not currently supported."
TOO_DEEP = "Bulk queries cannot contain connections with a nesting depth greater than 2."
NOT_A_QUERY = "Invalid bulk query: "


@dataclass(slots=True)
class BulkOperation:
    """`polls`: how often it is still seen running before it is over."""

    id: int
    query: str
    created_at: datetime
    polls: int
    status: str = "CREATED"
    error_code: str | None = None
    completed_at: datetime | None = None
    lines: list[str] | None = None
    roots: int = 0

    def shown(self, base: str) -> Node:
        done = self.status == "COMPLETED"
        text = "\n".join(self.lines or [])
        return {
            "__typename": "BulkOperation",
            "id": gid("BulkOperation", self.id),
            "status": self.status,
            "type": "QUERY",
            "query": self.query,
            "createdAt": time(self.created_at),
            "completedAt": time_or_none(self.completed_at),
            "errorCode": self.error_code,
            "objectCount": str(len(self.lines or [])),
            "rootObjectCount": str(self.roots),
            "fileSize": str(len(text.encode())) if done and text else None,
            "url": f"{base}/bulk-results/{self.id}.jsonl" if done and text else None,
            "partialDataUrl": None,
        }


class BulkOperations:
    """polls: how often each is seen running before it is over. fail_next: the next one ends FAILED with this code."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._ids = count(FIRST_ID, 32_768)
        self.polls = 1
        self.fail_next: str | None = None
        self.all: dict[int, BulkOperation] = {}

    def start(self, query: str, schema: GraphQLSchema) -> tuple[BulkOperation | None, list[Node]]:
        wrong = refusal(query, schema)
        if wrong:
            return None, [{"field": ["query"], "message": wrong, "code": "INVALID"}]
        if sum(o.completed_at is None for o in self.all.values()) >= AT_ONCE:
            message = "A bulk query operation for this app and shop is already in progress."
            return None, [{"field": None, "message": message, "code": "OPERATION_IN_PROGRESS"}]
        made = BulkOperation(next(self._ids), query, self._clock(), self.polls)
        self.all[made.id] = made
        return made, []

    def poll(self, id: int, run: Callable[[str], dict[str, Any]]) -> BulkOperation | None:
        """Looks at one; when its time has come the query is run."""
        known = self.all.get(id)
        if known is None or known.completed_at is not None:
            return known
        known.polls -= 1
        known.status = "RUNNING"
        if known.polls < 0:
            self._finish(known, run)
        return known

    def _finish(self, known: BulkOperation, run: Callable[[str], dict[str, Any]]) -> None:
        known.completed_at = self._clock()
        if self.fail_next:
            known.status, known.error_code, self.fail_next = "FAILED", self.fail_next, None
            return
        known.status, known.lines = "COMPLETED", []
        for node in _nodes(next(iter(run(known.query).values()))):
            known.roots += 1
            known.lines.extend(json.dumps(line, separators=(",", ":")) for line in flat(node, None))

    def cancel(self, id: int) -> BulkOperation | None:
        known = self.all.get(id)
        if known is not None and known.completed_at is None:
            known.status, known.completed_at = "CANCELED", self._clock()
        return known


def flat(node: Node, parent: str | None) -> Iterator[Node]:
    """The object without its connections, then what they hold, each with `__parentId`."""
    own = {name: value for name, value in node.items() if not _is_connection(value)}
    yield own if parent is None else {**own, "__parentId": parent}
    for value in node.values():
        if _is_connection(value):
            for child in _nodes(value):
                yield from flat(child, node["id"])


def _is_connection(value: Any) -> bool:
    return isinstance(value, dict) and ("edges" in value or "nodes" in value)


def _nodes(connection: Node) -> list[Node]:
    if "nodes" in connection:
        return list(connection["nodes"])
    return [edge["node"] for edge in connection["edges"]]


def refusal(query: str, schema: GraphQLSchema) -> str | None:
    """Why Shopify does not take this query as a bulk operation; None when it does."""
    try:
        document = parse(query)
    except GraphQLError as error:
        return NOT_A_QUERY + error.message
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    if len(operations) != 1 or len(operations[0].selection_set.selections) != 1:
        return "Bulk queries must contain exactly one top-level field."
    info = TypeInfo(schema)
    seen = _Shape(info)
    visit(document, TypeInfoVisitor(info, seen))
    if seen.in_a_list:
        return IN_A_LIST
    if seen.deepest > 2:
        return TOO_DEEP
    return None if seen.deepest else NO_CONNECTION


class _Shape(Visitor):
    """How deep connections are nested, and whether one is inside a plain list."""

    def __init__(self, info: TypeInfo) -> None:
        super().__init__()
        self._info = info
        self._path: list[str] = []
        self.deepest = 0
        self.in_a_list = False

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        shape = self._info.get_type()
        kind = "leaf"
        if shape is not None and node.selection_set is not None:
            named = get_named_type(shape)
            if is_object_type(named) and named.name.endswith("Connection"):
                kind = "connection"
            elif is_list_type(get_nullable_type(shape)) and node.name.value not in ("edges", "nodes"):
                kind = "list"
        if kind == "connection":
            self.in_a_list = self.in_a_list or "list" in self._path
            self.deepest = max(self.deepest, self._path.count("connection") + 1)
        self._path.append(kind)

    def leave_field(self, *_: Any) -> None:
        self._path.pop()
