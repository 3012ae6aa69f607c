"""Texts in a document made into variables, so that a document is parsed and validated once for all its values.

Both this agent and Prefect write ids and times into the text of their queries, which makes nearly every text a new one.
"""

from __future__ import annotations

import re
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLInputType,
    GraphQLScalarType,
    GraphQLSchema,
    NameNode,
    OperationDefinitionNode,
    TypeInfo,
    TypeInfoVisitor,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    get_named_type,
    parse_type,
    visit,
)

_PREFIX = "literal__"

# Every repetition is possessive: none is ever tried again in another way, however a document goes on.
_TEXT = r'"[^"\\\n\r]*+"'
_LIST = rf"\[\s*+{_TEXT}(?:\s*+,\s*+{_TEXT})*+\s*+\]"
# In this order: a comment or a text with an escape in it is passed over as a whole. So is one that does not end:
# otherwise each quotation mark in it would be looked at as the beginning of another.
_TOKEN = re.compile(rf'(?P<lifted>{_LIST}|{_TEXT})|(?P<kept>#[^\n\r]*+|"(?:[^"\\\n\r]|\\.)*+"?)')
_ONE_TEXT = re.compile(_TEXT)


def lift(query: str) -> tuple[str, dict[str, Any]]:
    """Given a document, return it with variables in place of its texts and lists of texts, and their values.

    Texts with escapes stay, and so does everything where that is simpler: then there are no values.
    """
    if '"' not in query or '"""' in query or _PREFIX in query:
        return query, {}
    values: dict[str, Any] = {}

    def replaced(match: re.Match[str]) -> str:
        lifted = match["lifted"]
        if lifted is None:
            return match[0]
        name = f"{_PREFIX}{len(values)}"
        values[name] = lifted[1:-1] if lifted[0] == '"' else [text[1:-1] for text in _ONE_TEXT.findall(lifted)]
        return f"${name}"

    return _TOKEN.sub(replaced, query), values


def declare(document: DocumentNode, schema: GraphQLSchema) -> DocumentNode | None:
    """Given a lifted document, return it with its variables declared, each with the type that its place asks for.

    Return None where that cannot be: there is more than one definition in it, or a place has no type of its own (it
    lies within a JSON value) or one that a text in a variable would fit and a text in the document would not.
    """
    if len(document.definitions) != 1 or not isinstance(document.definitions[0], OperationDefinitionNode):
        return None
    operation = document.definitions[0]
    found = _Places(TypeInfo(schema))
    visit(operation, TypeInfoVisitor(found.type_info, found))
    if not all(map(_takes_texts, found.types.values())):
        return None
    declared = (*(operation.variable_definitions or ()), *map(_declaration, found.types, found.types.values()))
    parts = {key: getattr(operation, key) for key in operation.keys}
    return DocumentNode(definitions=(OperationDefinitionNode(**{**parts, "variable_definitions": declared}),))


class _Places(Visitor):
    """Notes the type of the place of each lifted variable."""

    def __init__(self, type_info: TypeInfo) -> None:
        super().__init__()
        self.type_info = type_info
        self.types: dict[str, GraphQLInputType | None] = {}

    def enter_variable(self, node: VariableNode, *_where: object) -> None:
        if node.name.value.startswith(_PREFIX):
            self.types[node.name.value] = self.type_info.get_input_type()


def _takes_texts(kind: GraphQLInputType | None) -> bool:
    return kind is not None and isinstance(get_named_type(kind), GraphQLScalarType)


def _declaration(name: str, kind: GraphQLInputType | None) -> VariableDefinitionNode:
    return VariableDefinitionNode(
        variable=VariableNode(name=NameNode(value=name)), type=parse_type(str(kind)), directives=()
    )
