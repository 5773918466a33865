"""The guard as pure functions, on texts that `EXPLAIN AST` printed (or that an attacker wishes it had)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.devstack.guard import (
    QUERY_LIMIT,
    Allowed,
    Node,
    QueryRefused,
    check_select,
    explainable,
    parse_tree,
    single,
)

ALLOWED = Allowed(
    tables=frozenset(["evidence.reads", "evidence.changes", "system.settings"]),
    existing=frozenset(["evidence.reads", "evidence.changes", "evidence.records", "evidence._entries"]),
    functions=frozenset(["plus", "count", "upper", "in", "notin", "file", "sleep", "tuple", "lambda", "sum"]),
    aggregates=frozenset(["count", "sum"]),
)

SIMPLE = """SelectWithUnionQuery (children 1)
 ExpressionList (children 1)
  SelectQuery (children 2)
   ExpressionList (children 2)
    Function count (alias how_many) (children 1)
     ExpressionList
    Identifier subject
   TablesInSelectQuery (children 1)
    TablesInSelectQueryElement (children 1)
     TableExpression (children 1)
      TableIdentifier reads (alias r)
"""


def selecting(*lines: str, tail: str = "") -> str:
    """`SELECT <one expression>`, the expression's tree given as lines; `tail` follows the query."""
    inner = "\n".join("    " + line for line in lines)
    children = 2 if tail else 1
    return (
        f"SelectWithUnionQuery (children {children})\n ExpressionList (children 1)\n  SelectQuery (children 1)\n"
        f"   ExpressionList (children 1)\n{inner}\n{tail}"
    )


def reading(*lines: str) -> str:
    """`SELECT * FROM <…>`, the table expression's children given as lines."""
    inner = "\n".join("      " + line for line in lines)
    return (
        "SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  SelectQuery (children 2)\n"
        "   ExpressionList (children 1)\n    Asterisk\n   TablesInSelectQuery (children 1)\n"
        f"    TablesInSelectQueryElement (children 1)\n     TableExpression (children 1)\n{inner}\n"
    )


def shape(node: Node) -> tuple[object, ...]:
    return (node.kind, node.name, *(shape(child) for child in node.children))


def test_a_tree_is_what_the_indents_say() -> None:
    (root,) = parse_tree(SIMPLE)
    assert shape(root) == (
        "SelectWithUnionQuery", "",
        ("ExpressionList", "",
         ("SelectQuery", "",
          ("ExpressionList", "",
           ("Function", "count", ("ExpressionList", "")),
           ("Identifier", "subject")),
          ("TablesInSelectQuery", "",
           ("TablesInSelectQueryElement", "",
            ("TableExpression", "", ("TableIdentifier", "reads"))))))
    )  # fmt: skip
    assert [node.kind for node in root.walk()][:3] == ["SelectWithUnionQuery", "ExpressionList", "SelectQuery"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        " SelectWithUnionQuery",
        "SelectWithUnionQuery (children 1)",
        "SelectWithUnionQuery (children 1)\n  ExpressionList",
        "SelectWithUnionQuery\n ExpressionList",
        "SelectWithUnionQuery (children 2)\n ExpressionList",
        "SelectWithUnionQuery (children 1)\n ExpressionList\n ExpressionList",
        "SelectWithUnionQuery (children 1)\n\tExpressionList",
        "SelectWithUnionQuery (children 1)\n 1",
        "SelectWithUnionQuery\nSelectWithUnionQuery",
        "SelectWithUnionQuery (children 1)\r\n ExpressionList",
        '"SelectWithUnionQuery (children 1)"',
    ],
)
def test_what_is_not_a_tree_is_refused(text: str) -> None:
    with pytest.raises(QueryRefused, match="cannot be understood"):
        parse_tree(text)


# An identifier with line ends, printed as it is, in `SELECT <name>` and `SELECT upper(<name>), file('x')`.
FORGERIES = {
    "a sibling": selecting("Identifier a", "Identifier b"),
    "a child": selecting("Identifier a", " Literal 'x'"),
    "a child with its count": selecting("Identifier a (children 1)", " Literal 'x'", "Identifier b"),
    "a node that would hide the next": selecting(
        "Function upper (children 1)", " ExpressionList (children 1)", "  Identifier a", "  Function file (children 1)"
    ),
    "an end of the list": selecting("Identifier a", tail=" Identifier JSON\n Identifier CSV\n"),
    "a level too deep": selecting("Identifier a (children 1)", "  Literal 'x'"),
    "an empty line": selecting("Identifier a", ""),
    "a count of another": selecting("Identifier a (children 0)", "Identifier b (children 0)"),
}


@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
def test_a_name_that_pretends_to_be_nodes_is_one_too_many_for_somebody(text: str) -> None:
    with pytest.raises(QueryRefused, match="cannot be understood"):
        parse_tree(text)


def test_a_forged_node_is_judged_like_a_real_one() -> None:
    """Where the counts agree after all, what was forged is still checked, never skipped."""
    text = selecting("Identifier a (children 1)", " Function file (children 1)", "  ExpressionList")
    assert [node.kind for node in parse_tree(text)[0].walk()][-2:] == ["Function", "ExpressionList"]
    with pytest.raises(QueryRefused, match="the function file"):
        check_select(text, ALLOWED)


@given(st.text(alphabet="\n ()1abcSet:childrenLiteral'", max_size=60))
def test_no_text_gets_past_the_parser_with_a_wrong_count(text: str) -> None:
    """Whatever a name prints: either the query is refused, or every node has the children it says it has."""
    printed = selecting(f"Identifier {text}")
    try:
        roots = parse_tree(printed)
    except QueryRefused:
        return
    kinds = [node.kind for root in roots for node in root.walk()]
    assert len(kinds) == len(printed.rstrip("\n").split("\n"))
    assert kinds[:5] == ["SelectWithUnionQuery", "ExpressionList", "SelectQuery", "ExpressionList", "Identifier"]


ACCEPTED = {
    "a count over a view": SIMPLE,
    "a format": selecting("Literal UInt64_1", tail=" Identifier JSON\n"),
    "a qualified view": reading("TableIdentifier evidence.reads"),
    "what a client asks first": reading("TableIdentifier system.settings"),
    "the name of a WITH": reading("TableIdentifier late"),
    "a subquery": reading("Subquery (children 1)", *(" " + line for line in SIMPLE.splitlines())),
    "IN a list": selecting(
        "Function in (children 1)", " ExpressionList (children 2)", "  Identifier a", "  Literal Tuple_(UInt64_1)"
    ),
    "a combinator": selecting(
        "Function countIfOrNull (children 1)", " ExpressionList (children 1)", "  Literal UInt64_1"
    ),
    "several combinators": selecting("Function sumArrayIf (children 1)", " ExpressionList"),
    "any case": selecting("Function UPPER (children 1)", " ExpressionList"),
    "a literal that looks like an alias": selecting("Literal 'x (alias y)'"),
    "a literal with anything": selecting("Literal '(children 1) Set file('"),
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_an_auditor_needs_is_accepted(text: str) -> None:
    check_select(text, ALLOWED)


REFUSED = {
    "an insert": ("InsertQuery  (children 1)\n Identifier x", "only SELECT"),
    "an explain": ("Explain EXPLAIN AST (children 1)\n SelectWithUnionQuery", "only SELECT"),
    "settings": (selecting("Literal UInt64_1", tail=" Set\n"), "SETTINGS"),
    "settings inside": (selecting("Set"), "settings cannot be set"),
    "a file to write": (selecting("Literal UInt64_1", tail=" Literal '/x'\n"), "OUTFILE"),
    "another format": (selecting("Literal UInt64_1", tail=" Identifier Template\n"), "FORMAT"),
    "a base table": (reading("TableIdentifier records"), "records cannot be read"),
    "a qualified base table": (reading("TableIdentifier evidence.records"), "cannot be read"),
    "a base table with an alias": (reading("TableIdentifier evidence.records (alias reads)"), "cannot be read"),
    "a hidden view": (reading("TableIdentifier _entries"), "cannot be read"),
    "another database": (reading("TableIdentifier system.tables"), "cannot be read"),
    "a table nobody has, qualified": (reading("TableIdentifier evidence.nothing"), "cannot be read"),
    "a name with dots": (reading("TableIdentifier evidence.reads.x"), "cannot be read"),
    "a table function": (
        reading("Function numbers (children 1)", " ExpressionList"),
        "the table function numbers is not allowed",
    ),
    "a table function that is a known function": (
        reading("Function upper (children 1)", " ExpressionList"),
        "the table function upper",
    ),
    "a function of a listed category that reads files": (
        selecting("Function file (children 1)", " ExpressionList"),
        "the function file",
    ),
    "a function in another case": (selecting("Function FILE (children 1)", " ExpressionList"), "the function FILE"),
    "one that waits": (selecting("Function sleep (children 1)", " ExpressionList"), "the function sleep"),
    "an unknown function": (selecting("Function hostName (children 1)", " ExpressionList"), "hostName"),
    "a combinator of no aggregate": (selecting("Function fileIf (children 1)", " ExpressionList"), "fileIf"),
    "a combinator of a plain function": (selecting("Function upperIf (children 1)", " ExpressionList"), "upperIf"),
    "a combinator of nothing": (selecting("Function if (children 1)", " ExpressionList"), "the function if"),
    "APPLY": (selecting("ColumnsApplyTransformer"), "APPLY"),
    "a node that is not known": (selecting("QueryParameter t:Identifier"), "QueryParameter is not allowed"),
    "IN a table": (
        selecting("Function in (children 1)", " ExpressionList (children 2)", "  Identifier a", "  Identifier records"),
        "write IN with a list",
    ),
    "IN a table identifier": (
        selecting(
            "Function notIn (children 1)", " ExpressionList (children 2)", "  Literal 1", "  TableIdentifier reads"
        ),
        "write IN with a list",
    ),
    "IN without arguments": (selecting("Function in"), "write IN with a list"),
    "IN with three": (
        selecting(
            "Function in (children 1)", " ExpressionList (children 3)", "  Literal 1", "  Literal 2", "  Literal 3"
        ),
        "write IN with a list",
    ),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_nobody_needs_is_refused_with_words(text: str, why: str) -> None:
    with pytest.raises(QueryRefused, match=why):
        check_select(text, ALLOWED)


def test_a_refused_table_names_those_that_can_be_read() -> None:
    with pytest.raises(QueryRefused, match=r"what can: changes, reads$"):
        check_select(reading("TableIdentifier records"), ALLOWED)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT 1\n", "SELECT 1"),
        ("SELECT 1;", "SELECT 1"),
        ("SELECT 1 ; \n", "SELECT 1"),
        ("SELECT 1;;", "SELECT 1"),
        ("-- c\nSELECT 1", "-- c\nSELECT 1"),
    ],
)
def test_one_statement_is_taken_without_what_ends_it(statement: str, text: str) -> None:
    assert single(statement) == text


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        (" ; ", "empty"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT ';'", "one statement"),
        ("SELECT 1 /* ; */", "one statement"),
        ("; SELECT 1", "one statement"),
        ("SELECT 1; ; ", "one statement"),
        ("SELECT $a$;$a$", "one statement"),
        ("SELECT 1\0", "zero byte"),
        ("SELECT '\0'", "zero byte"),
        ("x" * (QUERY_LIMIT + 1), "longer than"),
        (" " * (QUERY_LIMIT + 1), "longer than"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_none_two_or_too_long_a_one_is_refused(statement: str, why: str) -> None:
    with pytest.raises(QueryRefused, match=why):
        single(statement)


def test_the_longest_query_is_taken() -> None:
    assert len(single("x" * QUERY_LIMIT)) == QUERY_LIMIT


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "select 1",
        "WITH 1 AS x SELECT x",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "-- one\n  -- two\nSELECT 1",
        "/* one * two / ** */ SELECT 1",
        "/**/SELECT/**/1",
        "SELECT outfile_name, infiles FROM reads",
        "SELECT `a`,\n  \"b\" FROM reads WHERE match(path, '\\d+\\n')",
        "SELECT '\\x41', children FROM reads",
    ],
)
def test_what_begins_like_a_select_may_be_explained(statement: str) -> None:
    assert explainable(statement) == statement


@pytest.mark.parametrize(
    "statement",
    [
        # `EXPLAIN AST` and one of these make a SELECT of an expression, where SELECT may be left out.
        ", file('x') FROM (SELECT 1 AS EXPLAIN)",
        "-- SELECT\n, file('x') FROM (SELECT 1 AS EXPLAIN)",
        "/* SELECT */, file('x')",
        "/* SELECT 1",
        "-- SELECT 1",
        "+ file('x')",
        "SELECTED",
        "SELECT_ 1",
        "WITHIN",
        "INSERT INTO x SELECT 1",
        "",
        # A second one belongs to the EXPLAIN, which would write it.
        "SELECT 1 FORMAT Null INTO OUTFILE 'x'",
        "SELECT 1 INTO/**/outfile 'x'",
        "SELECT 1 INTO\nOutFile'x'",
        "SELECT * FROM x FROM INFILE 'x'",
        # A name that brings a count can make room for a node that is not there, and take one out of its place.
        "WITH x -> x AS `upper (children 2)\n ExpressionList` SELECT `upper (children 2)\n ExpressionList`(1)",
        "SELECT `upper \\x28children 2)\n ExpressionList`(1)",
        'SELECT "upper (\\x63hildren 2)\n ExpressionList"(1)',
        "SELECT {x:Identifier}",
        "SELECT {x:/**/Identifier}",
    ],
)
def test_what_would_act_while_it_is_explained_is_refused(statement: str) -> None:
    with pytest.raises(QueryRefused):
        explainable(statement)


def test_a_long_row_of_comments_costs_no_more_than_its_length() -> None:
    """A pattern that tried every split would not come back from this."""
    for text in ("/**/" * 60_000, "--\n" * 80_000, " " * 250_000, "/*" + "*" * 250_000, "--" * 120_000):
        with pytest.raises(QueryRefused):
            explainable(text + "x")
