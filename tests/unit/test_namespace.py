"""The tree: one namespace over three source roots, and every room says what it is for."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("services", "streams", "schemas")


def rooms() -> list[Path]:
    """Every directory below a source root's `schemaseal` that holds Python, at any depth."""
    found = {path.parent for source in SOURCES for path in (ROOT / source / "schemaseal").rglob("*.py")}
    return sorted(path for path in found if path.name != "schemaseal")


def name_of(room: Path) -> str:
    return ".".join(room.relative_to(ROOT).parts[1:])


ROOMS = rooms()


def test_the_rooms_of_the_tree_are_found() -> None:
    """The checks below would pass for an empty list."""
    names = {name_of(room) for room in ROOMS}
    assert {"schemaseal.streams", "schemaseal.contracts", "schemaseal.core.kafka", "schemaseal.tlog"} <= names
    assert len(names) == len(ROOMS), "two source roots hold a room of the same name"


@pytest.mark.parametrize("source", SOURCES)
def test_no_source_root_claims_the_namespace(source: str) -> None:
    """`schemaseal/__init__.py` in one root would hide what the other two hold."""
    assert (ROOT / source / "schemaseal").is_dir()
    strays = [path.name for path in (ROOT / source / "schemaseal").glob("__init__.*")]
    assert strays == []
    assert not (ROOT / source / "__init__.py").exists()


def test_the_namespace_spans_the_three_roots() -> None:
    package = importlib.import_module("schemaseal")
    assert package.__file__ is None
    assert {Path(path).resolve() for path in package.__path__} >= {ROOT / source / "schemaseal" for source in SOURCES}


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_every_room_says_what_it_is_for(room: Path) -> None:
    """Read, not imported: a room may need what is only installed for it."""
    init = room / "__init__.py"
    assert init.is_file(), f"{name_of(room)} has no __init__.py"
    text = ast.get_docstring(ast.parse(init.read_text("utf-8")))
    assert text is not None, f"{name_of(room)} does not say what it is for"


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_every_module_says_what_it_is_for(room: Path) -> None:
    silent = [
        path.name for path in sorted(room.glob("*.py")) if ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None
    ]
    assert silent == []
