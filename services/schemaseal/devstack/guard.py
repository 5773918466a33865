"""What a user of the local ClickHouse endpoint may send, decided on the engine's own parse of it.

The engine that runs in-process knows no users, and `readonly` alone contains nothing: scalar `file()` still
reads files, `INTO OUTFILE` writes them, `merge()` reaches other tables. So a query of an auditor or writer is
parsed by the engine (`EXPLAIN AST`), and only a tree of known nodes over listed tables and functions runs.
A production deployment uses a ClickHouse server with `infra/clickhouse/roles.sql` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemaseal.core.errors import SchemasealError

QUERY_LIMIT = 256 * 1024

# Categories of `system.functions` that compute on their arguments and touch nothing else.
CATEGORIES = (
    "Aggregate Functions", "Arithmetic", "Arrays", "Bit", "Comparison", "Conditional", "Dates and Times", "Encoding",
    "Hash", "IP Address", "JSON", "Logical", "Map", "Mathematical", "Null", "Rounding", "String",
    "String Replacement", "String Search", "String Splitting", "Tuple", "Type Conversion", "URL", "UUID",
)  # fmt: skip
# Beside them: what the parser writes for syntax, and harmless ones of other categories.
FUNCTIONS = frozenset(
    [
        "_cast",
        "array",
        "arrayelement",
        "cast",
        "exists",
        "formatreadablequantity",
        "formatreadablesize",
        "grouping",
        "ignore",
        "lambda",
        "materialize",
        "multiif",
        "timezone",
        "totypename",
        "tuple",
        "tupleelement",
        "version",
    ]
)
# In a listed category, and still not for a reader: they wait, or run another function by its name.
NOT_FUNCTIONS = frozenset(["file", "sleep", "sleepeachrow", "flamegraph", "nothing", "nothinguint64", "nothingnull"])
_COMBINATORS = re.compile(
    r"(if|array|map|distinct|ornull|ordefault|state|merge|foreach|simplestate|argmin|argmax|resample)$"
)
_IN = re.compile(r"^(global)?(not)?(null)?in(ignoreset)?$")

_NODES = frozenset(
    [
        "SelectWithUnionQuery",
        "SelectQuery",
        "SelectIntersectExceptQuery",
        "ExpressionList",
        "Identifier",
        "Literal",
        "Function",
        "Subquery",
        "Asterisk",
        "QualifiedAsterisk",
        "ColumnsRegexpMatcher",
        "ColumnsListMatcher",
        "QualifiedColumnsRegexpMatcher",
        "QualifiedColumnsListMatcher",
        "ColumnsTransformerList",
        "ColumnsApplyTransformer",
        "ColumnsExceptTransformer",
        "ColumnsReplaceTransformer",
        "ColumnsReplaceTransformer::Replacement",
        "TablesInSelectQuery",
        "TablesInSelectQueryElement",
        "TableExpression",
        "TableIdentifier",
        "TableJoin",
        "ArrayJoin",
        "WithElement",
        "OrderByElement",
        "InterpolateElement",
        "WindowDefinition",
        "WindowListElement",
        "SampleRatio",
    ]
)
_COMMENTS = r"(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*"
_SELECT = re.compile(_COMMENTS + r"(?:SELECT\b|WITH\b|\()", re.IGNORECASE)
_FILES = re.compile(r"\b(?:INFILE|OUTFILE)\b", re.IGNORECASE)
# What a name would need to say how many children the node above it has, also written with escapes.
_COUNTS = re.compile(r"\(children |\\x[^`\"]*[`\"]|[`\"].*\\x|\bIdentifier\b", re.DOTALL)
_LINE = re.compile(r"^(?P<indent> *)(?P<node>[A-Za-z:]+)(?: (?P<rest>.*?))??(?: +\(children (?P<count>\d+)\))?$")
_ALIAS = re.compile(r" *\(alias .*\)$")
FORMATS = frozenset(
    [
        "Native",
        "RowBinary",
        "RowBinaryWithNamesAndTypes",
        "TabSeparated",
        "TSV",
        "TabSeparatedWithNames",
        "TSVWithNames",
        "TabSeparatedWithNamesAndTypes",
        "TSVWithNamesAndTypes",
        "TSVRaw",
        "CSV",
        "CSVWithNames",
        "JSON",
        "JSONCompact",
        "JSONEachRow",
        "Pretty",
        "PrettyCompact",
        "Vertical",
        "Markdown",
        "Null",
        "Parquet",
        "Arrow",
        "ArrowStream",
        "Values",
    ]
)


class QueryRefused(SchemasealError):  # noqa: N818 - named for what it is
    """The endpoint does not run this query; the text says what is not allowed in it."""


@dataclass(slots=True)
class Node:
    """One node of the engine's tree."""

    kind: str
    name: str = ""
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Allowed:
    """`tables` may be read, `existing` are all there are (full names); functions in lower case."""

    tables: frozenset[str]
    existing: frozenset[str]
    functions: frozenset[str]
    aggregates: frozenset[str]
    database: str = "evidence"


def single(statement: str) -> str:
    """The one statement in a request. Raises `QueryRefused` for none, two, or too long a one.

    `EXPLAIN AST a; b` would *run* b: so a semicolon is refused wherever it stands but at the end.
    """
    if len(statement) > QUERY_LIMIT:
        raise QueryRefused(f"the query is longer than {QUERY_LIMIT} characters")
    text = statement.strip().rstrip(";").strip()
    if not text:
        raise QueryRefused("the query is empty")
    if ";" in text:
        raise QueryRefused("one statement a request; pass a text with a semicolon as a parameter, {name:String}")
    if "\0" in text:
        raise QueryRefused("the query holds a zero byte")
    return text


def explainable(statement: str) -> str:
    """The statement, if nothing in it could act while it is only explained. Raises `QueryRefused`.

    `EXPLAIN AST , file('…') FROM (SELECT 1 AS EXPLAIN)` is a SELECT to an engine that lets the keyword be left
    out, and a second INTO OUTFILE belongs to the EXPLAIN itself: both would run before any tree is checked.
    """
    if _SELECT.match(statement) is None:
        raise QueryRefused("only SELECT is allowed")
    if _FILES.search(statement):
        raise QueryRefused("INTO OUTFILE is not allowed; pass a text with that word as a parameter, {name:String}")
    if _COUNTS.search(statement):
        raise QueryRefused("names are plain here: no hex escapes, no Identifier parameters, no '(children '")
    return statement


def parse_tree(explained: str) -> list[Node]:
    """`EXPLAIN AST`'s text as trees. Raises `QueryRefused`.

    The engine prints identifiers as they are, line ends too, so a name could pretend to be nodes. Every node
    says how many children it has: a pretended one is one too many for somebody, and the query is refused.
    `explainable` sees to it that no name brings a count of its own, which could make up for it.
    """
    root = Node("")
    path = [(root, 1)]
    for line in explained.rstrip("\n").split("\n"):
        found = _LINE.match(line)
        depth = len(found["indent"]) if found else len(path)
        if found is None or depth + 1 > len(path):
            raise QueryRefused("the query cannot be understood")
        for node, count in path[depth + 1 :]:
            _complete(node, count)
        del path[depth + 1 :]
        node = Node(found["node"], _ALIAS.sub("", found["rest"] or "").strip())
        path[-1][0].children.append(node)
        path.append((node, int(found["count"] or 0)))
    for node, count in path:
        _complete(node, count)
    return root.children


def _complete(node: Node, count: int) -> None:
    # An empty list of arguments is printed without a count, and has none.
    if len(node.children) != count:
        raise QueryRefused("the query cannot be understood; names with line ends are not allowed")


def check_select(explained: str, allowed: Allowed) -> None:
    """Only a SELECT over allowed tables and functions. Raises `QueryRefused`."""
    root = parse_tree(explained)[0]
    if root.kind != "SelectWithUnionQuery":
        raise QueryRefused("only SELECT is allowed")
    query, *rest = root.children
    if any(child.kind != "Identifier" or child.name not in FORMATS for child in rest) or len(rest) > 1:
        raise QueryRefused("INTO OUTFILE, SETTINGS and this FORMAT are not allowed")
    for node in query.walk():
        _check_node(node, allowed)


def _check_node(node: Node, allowed: Allowed) -> None:
    if node.kind == "Set":
        raise QueryRefused("settings cannot be set by clients")
    if node.kind not in _NODES:
        raise QueryRefused(f"{node.kind} is not allowed in a query here")
    if node.kind == "TableIdentifier":
        _check_table(node.name, allowed)
    elif node.kind == "TableExpression":
        source = node.children[0] if node.children else node
        if source.kind not in ("TableIdentifier", "Subquery"):
            raise QueryRefused(f"the table function {source.name} is not allowed")
    elif node.kind == "Function":
        _check_function(node, allowed)
    elif node.kind == "ColumnsApplyTransformer":
        raise QueryRefused("APPLY is not allowed; write the function around each column")


def _check_table(name: str, allowed: Allowed) -> None:
    full = name if "." in name else f"{allowed.database}.{name}"
    # An unqualified name that no table has is the name of a WITH, or an error that the engine reports.
    if full in allowed.tables or ("." not in name and full not in allowed.existing):
        return
    readable = ", ".join(
        sorted(table.partition(".")[2] for table in allowed.tables if table.startswith(allowed.database))
    )
    raise QueryRefused(f"{name} cannot be read here; what can: {readable}")


def _check_function(node: Node, allowed: Allowed) -> None:
    name = node.name.lower()
    if name in NOT_FUNCTIONS or not (name in allowed.functions or _is_combined(name, allowed)):
        raise QueryRefused(f"the function {node.name} is not allowed")
    if _IN.match(name):
        # `x IN name` would read the table of that name.
        arguments = node.children[0].children if node.children else []
        if len(arguments) != 2 or arguments[1].kind in ("Identifier", "TableIdentifier"):
            raise QueryRefused("write IN with a list or (SELECT …), not with the name of a table")


def _is_combined(name: str, allowed: Allowed) -> bool:
    while found := _COMBINATORS.search(name):
        name = name[: found.start()]
        if name in allowed.aggregates and name not in NOT_FUNCTIONS:
            return True
    return False
