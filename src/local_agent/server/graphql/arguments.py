"""Plain values out of a GraphQL document.

Arguments of queries are read from the document itself and not through graphql-core's coercion, because that puts an
object's fields into the schema's order, and in `order_by: {name: asc, version: desc}` their order is the meaning.
Documents are validated before, so what is found here has the right types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    BooleanValueNode,
    EnumValueNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableNode,
)

from local_agent.server.input.refusals import RefusedError


class _Missing:
    """A variable that the request does not give."""


_MISSING = _Missing()


@dataclass(frozen=True)
class Reader:
    """Reads arguments and selections of one operation."""

    variables: Mapping[str, Any]
    fragments: Mapping[str, FragmentDefinitionNode]

    def value(self, node: ValueNode) -> Any:  # noqa: ANN401 - any JSON value
        """Given a node, return its value: objects as dicts in their own order, enums as their names."""
        match node:
            case VariableNode():
                return self.variables.get(node.name.value, _MISSING)
            case NullValueNode():
                return None
            case IntValueNode():
                return int(node.value)
            case FloatValueNode():
                return float(node.value)
            case StringValueNode() | BooleanValueNode() | EnumValueNode():
                return node.value
            case ListValueNode():
                return [value for value in map(self.value, node.values or ()) if value is not _MISSING]
            case ObjectValueNode():
                pairs = ((field.name.value, self.value(field.value)) for field in node.fields or ())
                return {name: value for name, value in pairs if value is not _MISSING}
        raise RefusedError(f"Unexpected value of kind {node.kind}")

    def arguments(self, node: FieldNode) -> dict[str, Any]:
        """Return the arguments of a field, without those that are absent."""
        # graphql-core 3.3 has None where 3.2 has an empty tuple.
        pairs = ((argument.name.value, self.value(argument.value)) for argument in node.arguments or ())
        return {name: value for name, value in pairs if value is not _MISSING}

    def fields(self, nodes: Iterable[FieldNode | OperationDefinitionNode]) -> dict[str, list[FieldNode]]:
        """Given the nodes of one answer, return the fields selected in it by the name they have in the answer."""
        found: dict[str, list[FieldNode]] = {}
        visited: set[str] = set()
        for node in nodes:
            self._collect(node.selection_set, found, visited)
        return found

    def _collect(
        self, selections: SelectionSetNode | None, found: dict[str, list[FieldNode]], visited: set[str]
    ) -> None:
        for node in selections.selections if selections else ():
            if not self._included(node):
                continue
            match node:
                case FieldNode():
                    name = node.alias.value if node.alias else node.name.value
                    found.setdefault(name, []).append(node)
                case InlineFragmentNode():
                    self._collect(node.selection_set, found, visited)
                case FragmentSpreadNode() if node.name.value not in visited:
                    # Once is enough: a second time would add nothing, and 40 that spread the next twice 2^40 times.
                    visited.add(node.name.value)
                    self._collect(self.fragments[node.name.value].selection_set, found, visited)

    def _included(self, node: SelectionNode) -> bool:
        for directive in node.directives or ():
            condition = bool(self.value(next(iter(directive.arguments or ())).value))
            if condition is (directive.name.value == "skip"):
                return False
        return True


def reader(
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: Mapping[str, Any],
) -> Reader:
    """Given an operation and the request's variables, return a reader that also knows the variables' defaults."""
    literals = Reader({}, fragments)
    defaults = {
        definition.variable.name.value: literals.value(definition.default_value)
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }
    return Reader({**defaults, **variables}, fragments)
