"""What a document would cost, counted before anything else is done with it: each bound has its own error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
)

from local_agent.server.bounds.budget import Budget


class TooCostlyError(Exception):
    """A request that passes a bound of its budget. Its text names the bound."""


# Names, numbers, and signs by themselves; a text or a comment as a whole. Nothing in it repeats a repetition.
_TOKEN = re.compile(r'"(?:[^"\\\n\r]|\\.)*+"?|#[^\n\r]*+|[\w.]++|[^\s,]')


def check_text(query: str, budget: Budget) -> None:
    """Raise TooCostlyError for a text that is too long, or has too many tokens, to be parsed."""
    if len(query) > budget.document_bytes:
        raise TooCostlyError(
            f"The document has {len(query)} characters; at most {budget.document_bytes} are taken:"
            " send its values as variables"
        )
    # A token has a character at least.
    tokens = sum(1 for _ in _TOKEN.finditer(query)) if len(query) > budget.tokens else 0
    if tokens > budget.tokens:
        raise TooCostlyError(f"The document has {tokens} tokens; at most {budget.tokens} are taken")


def check_document(document: DocumentNode, budget: Budget) -> None:
    """Raise TooCostlyError for a document that asks for more than the budget allows. Fragments may be wrong yet."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    if len(fragments) > budget.fragments or len(document.definitions) > 2 * budget.fragments:
        raise TooCostlyError(
            f"The document has {len(document.definitions)} definitions; at most {budget.fragments} fragments are taken"
        )
    count = _Count(fragments, budget)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode):
            count.begin()
            count.selections(node.selection_set, 1, _Level())
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            _check_root(node, fragments, budget)
            _check_introspection(node, fragments)
            _check_variables(node, count, budget)


# Each of them lists all that a type has. Newer graphql-core allows as many within each other; Debian's does not look.
_LISTS = frozenset(("fields", "interfaces", "possibleTypes", "inputFields"))
_MAX_LISTS = 2
# The introspection that tools send has four of these lists, and with its fragments spelt out about 400 fields.
_MAX_LISTS_IN_ALL = 12
_MAX_INTROSPECTED = 800


def _check_introspection(node: OperationDefinitionNode, fragments: dict[str, FragmentDefinitionNode]) -> None:
    """Raise TooCostlyError for questions about the schema that are longer than any tool's."""
    asked = [each for each in _root_fields(node.selection_set, fragments, set()) if each.name.value in _ABOUT_SCHEMA]
    seen = listed = 0
    left = [(each.selection_set, 0) for each in asked]
    while left:
        selections, lists = left.pop()
        for each in _root_fields(selections, fragments, set()) if selections else ():
            is_list = each.name.value in _LISTS
            deeper, listed, seen = lists + is_list, listed + is_list, seen + 1
            if deeper > _MAX_LISTS or listed > _MAX_LISTS_IN_ALL or seen > _MAX_INTROSPECTED:
                raise TooCostlyError(
                    f"A question about the schema has at most {_MAX_INTROSPECTED} fields, {_MAX_LISTS_IN_ALL} lists"
                    f" of what types have, and {_MAX_LISTS} of these within each other"
                )
            left.append((each.selection_set, deeper))


_ABOUT_SCHEMA = ("__schema", "__type")


def _check_variables(node: OperationDefinitionNode, count: _Count, budget: Budget) -> None:
    variables = node.variable_definitions or ()
    if len(variables) > budget.variables:
        raise TooCostlyError(f"The {node.operation.value} has {len(variables)} variables; at most {budget.variables}")
    for each in variables:
        count.value(each.default_value, 1)


def check_filter(value: object, budget: Budget) -> None:
    """Raise TooCostlyError for a filter in a variable that has more objects than the budget allows."""
    left = [value]
    seen = 0
    while left:
        each = left.pop()
        if isinstance(each, dict | list):
            seen += 1
            left += each.values() if isinstance(each, dict) else each
        if seen > budget.filter_objects:
            raise TooCostlyError(f"A filter in a variable has more than {budget.filter_objects} objects and lists")


def _check_root(node: OperationDefinitionNode, fragments: dict[str, FragmentDefinitionNode], budget: Budget) -> None:
    names: dict[str, int] = {}
    for each in _root_fields(node.selection_set, fragments, set()):
        name = (each.alias or each.name).value
        names[name] = names.get(name, 0) + 1
    if len(names) > budget.root_fields:
        raise TooCostlyError(
            f"The {node.operation.value} has {len(names)} fields at its root; at most {budget.root_fields} are taken"
        )


def _root_fields(
    selections: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode], visited: set[str]
) -> Iterable[FieldNode]:
    for node in selections.selections:
        match node:
            case FieldNode():
                yield node
            case InlineFragmentNode():
                yield from _root_fields(node.selection_set, fragments, visited)
            case FragmentSpreadNode() if node.name.value in fragments and node.name.value not in visited:
                visited.add(node.name.value)
                yield from _root_fields(fragments[node.name.value].selection_set, fragments, visited)


@dataclass(frozen=True)
class _Level:
    """One selection with the fragments in it: which those are, and how often each field is named."""

    fragments: set[str] = field(default_factory=set)
    names: dict[str, int] = field(default_factory=dict)


class _Count:
    """Walks a document as it would be carried out, and stops where that is too much."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode], budget: Budget) -> None:
        self._fragments = fragments
        self._budget = budget
        self._fields = 0
        self._directives = 0

    def begin(self) -> None:
        """Begin an operation, or a fragment that perhaps none uses."""
        self._fields = 0

    def selections(self, selections: SelectionSetNode | None, depth: int, level: _Level) -> None:
        """Count what is selected."""
        if selections is None:
            return
        if depth > self._budget.depth:
            raise TooCostlyError(f"The query is nested more than {self._budget.depth} deep")
        for node in selections.selections:
            self._one(node, depth, level)

    def _one(self, node: SelectionNode, depth: int, level: _Level) -> None:
        self._spend(node)
        match node:
            case FieldNode():
                self._same(node, level.names)
                for argument in node.arguments or ():
                    self.value(argument.value, 1)
                self.selections(node.selection_set, depth + 1, _Level())
            case InlineFragmentNode():
                # A level of its own, though the answer has none: it is one to whoever walks the document.
                self.selections(node.selection_set, depth + 1, level)
            case FragmentSpreadNode() if node.name.value not in level.fragments and node.name.value in self._fragments:
                level.fragments.add(node.name.value)
                self.selections(self._fragments[node.name.value].selection_set, depth, level)

    def _spend(self, node: SelectionNode) -> None:
        self._fields += 1
        self._directives += len(node.directives or ())
        if self._fields > self._budget.fields:
            raise TooCostlyError(f"The query asks for more than {self._budget.fields} fields in all")
        if self._directives > self._budget.directives:
            raise TooCostlyError(f"The query has more than {self._budget.directives} directives")

    def _same(self, node: FieldNode, names: dict[str, int]) -> None:
        name = (node.alias or node.name).value
        names[name] = names.get(name, 0) + 1
        if names[name] > self._budget.same_fields:
            raise TooCostlyError(f"The query asks for the field {name} more than {self._budget.same_fields} times")

    def value(self, value: ValueNode | None, depth: int) -> None:
        """Look at how deep an argument is nested."""
        if depth > self._budget.value_depth:
            raise TooCostlyError(f"An argument is nested more than {self._budget.value_depth} deep")
        if isinstance(value, ListValueNode):
            for member in value.values or ():
                self.value(member, depth + 1)
        elif isinstance(value, ObjectValueNode):
            for each in value.fields or ():
                self.value(each.value, depth + 1)
