"""What a call to the Admin API costs, and the leaky bucket that it is paid from (Shopify's calculated query cost)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
)

MUTATION_COST = 10


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


def cost_of(document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> int:
    """Ten for each mutation, one for each object, and for a connection as many as it was asked for, and two."""
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    asked = _Costs(fragments, variables)
    each = MUTATION_COST if operation.operation is OperationType.MUTATION else 0
    return max(1, asked.of(operation.selection_set, each=each))


@dataclass
class _Costs:
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]

    def of(self, selected: SelectionSetNode | None, *, each: int = 0) -> int:
        if selected is None:
            return 0
        total = 0
        for part in selected.selections:
            if isinstance(part, FieldNode):
                total += self._field(part, each)
            elif isinstance(part, InlineFragmentNode):
                total += self.of(part.selection_set)
            elif isinstance(part, FragmentSpreadNode):
                total += self.of(self.fragments[part.name.value].selection_set)
        return total

    def _field(self, asked: FieldNode, each: int) -> int:
        if asked.selection_set is None:
            return 0
        if each:
            return each
        count = self._count(asked)
        inside = self.of(asked.selection_set)
        return 1 + inside if count is None else 2 + count * max(1, inside - 1)

    def _count(self, asked: FieldNode) -> int | None:
        for argument in asked.arguments or ():
            if argument.name.value in ("first", "last"):
                value = argument.value
                if isinstance(value, IntValueNode):
                    return int(value.value)
                if isinstance(value, VariableNode):
                    return int(self.variables.get(value.name.value) or 0)
        return None
