"""What a call to the Admin API costs, and the leaky bucket that it is paid from (Shopify's calculated query cost)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_interface_type,
    is_object_type,
)

from app.sandbox.schema import schema as our_schema

MUTATION_COST = 10
MOST_OF_ONE_CALL = 1000  # points that a single call may cost at most
INNER = 2  # deeper than a mutation's payload and the object in it
FREE = ("MoneyBag", "MoneyV2", "PageInfo")


@dataclass
class Bucket:
    """`maximum` points, `restored` a second. Another store, another bucket."""

    clock: Callable[[], datetime]
    maximum: int = 2000
    restored: int = 100
    _level: float = field(default=-1.0)
    _at: datetime | None = None

    def available(self) -> int:
        now = self.clock()
        if self._at is None or self._level < 0:
            self._level = float(self.maximum)
        else:
            passed = max(0.0, (now - self._at).total_seconds())
            self._level = min(float(self.maximum), self._level + passed * self.restored)
        self._at = now
        return int(self._level)

    def pay(self, cost: int) -> bool:
        """False when there is not enough; then nothing is taken."""
        if self.available() < cost:
            return False
        self._level -= cost
        return True

    def give_back(self, points: int) -> None:
        """What was paid for too much."""
        self._level = min(float(self.maximum), self._level + points)

    def drain(self) -> None:
        """Empties it, as another job of the app would."""
        self.pay(self.available())

    def shown(self, *, requested: int, actual: int | None) -> dict[str, Any]:
        """`extensions.cost` of an answer."""
        return {
            "requestedQueryCost": requested,
            "actualQueryCost": actual,
            "throttleStatus": {
                "maximumAvailable": float(self.maximum),
                "currentlyAvailable": self.available(),
                "restoreRate": float(self.restored),
            },
        }


def cost_of(
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    *,
    of: GraphQLSchema | None = None,
) -> int:
    """What the call may cost at most; with its `data`, what it did cost. `of`: the schema, the pretend store's if None.

    An object costs 1, a list of objects as much as one of them, money and page information nothing, a mutation 10. A
    connection costs 2 and, for each doubling of its length, its node once more. So were the costs of recorded answers.
    """
    schema = of or our_schema()
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    writing = operation.operation is OperationType.MUTATION
    root = schema.mutation_type if writing else schema.query_type
    assert root is not None
    costs = _Costs(schema, fragments, variables, first=1 if writing else 0)
    return max(1, costs.inside(operation.selection_set, root, data))


def scale(count: int) -> int:
    """How often the node of a connection of this length is counted: 1, 3, 4, 5, 7 for 1, 5, 10, 20, 50."""
    return 0 if count <= 0 else round(math.log2(count)) + 1


@dataclass
class _Costs:
    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]
    first: int  # 1: the fields of the root are mutations, whose payload's own objects are in their price

    def inside(self, selected: SelectionSetNode, parent: GraphQLNamedType, data: Any, depth: int = 0) -> int:
        """All fields of a selection; of fragments for different types only the dearest counts."""
        total, dearest = 0, 0
        for part in selected.selections:
            if isinstance(part, FieldNode):
                total += self._field(part, parent, data, depth)
            elif isinstance(part, FragmentSpreadNode):
                fragment = self.fragments[part.name.value]
                condition = self.schema.type_map[fragment.type_condition.name.value]
                total += self.inside(fragment.selection_set, condition, data, depth)
            elif isinstance(part, InlineFragmentNode):
                named = part.type_condition
                condition = parent if named is None else self.schema.type_map[named.name.value]
                dearest = max(dearest, self.inside(part.selection_set, condition, data, depth))
        return total + dearest

    def _field(self, asked: FieldNode, parent: GraphQLNamedType, data: Any, depth: int) -> int:
        if asked.selection_set is None:
            return 0
        assert is_object_type(parent) or is_interface_type(parent)
        named = get_named_type(parent.fields[asked.name.value].type)
        key = asked.alias.value if asked.alias else asked.name.value
        found = data.get(key) if isinstance(data, Mapping) else None
        if named.name in FREE or named.name.endswith("UserError"):
            return 0
        price = MUTATION_COST if self.first and depth == 0 else int(not (self.first and depth == 1))
        if data is not None and not found:
            return 0 if found is None and price == 1 else price
        if named.name.endswith("Connection"):
            return self._connection(asked, named, found)
        one = max(found, key=len) if isinstance(found, list) else found
        return price + self.inside(asked.selection_set, named, one, depth + 1)

    def _connection(self, asked: FieldNode, named: GraphQLNamedType, found: Any) -> int:
        assert is_object_type(named)
        assert asked.selection_set is not None
        nodes = self._nodes(asked.selection_set)
        of = get_named_type(named.fields["nodes"].type)
        if found is None:
            return 2 + scale(self._count(asked)) * (
                1 + max((self.inside(n, of, None, INNER) for n in nodes), default=0)
            )
        shown = found.get("nodes") or [edge["node"] for edge in found.get("edges") or ()]
        each = [1 + sum(self.inside(n, of, node, INNER) for n in nodes) for node in shown]
        return 2 + scale(len(each)) * max(each, default=0)

    def _nodes(self, selected: SelectionSetNode) -> list[SelectionSetNode]:
        """The selections on a connection's nodes, by either way."""
        fields = [part for part in selected.selections if isinstance(part, FieldNode)]
        edges = [
            part
            for f in fields
            if f.name.value == "edges" and f.selection_set
            for part in f.selection_set.selections
        ]
        inner = [part for part in edges if isinstance(part, FieldNode)]
        named = [f for f in fields if f.name.value == "nodes"] + [f for f in inner if f.name.value == "node"]
        return [f.selection_set for f in named if f.selection_set is not None]

    def _count(self, asked: FieldNode) -> int:
        for argument in asked.arguments or ():
            if argument.name.value in ("first", "last"):
                value = argument.value
                if isinstance(value, IntValueNode):
                    return int(value.value)
                if isinstance(value, VariableNode):
                    return int(self.variables.get(value.name.value) or 0)
        return 0
