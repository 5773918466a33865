"""What all commands share: a console, JSON output, and errors as one sentence with a hint."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from schemaseal.core.errors import SchemasealError

P = ParamSpec("P")
T = TypeVar("T")

console = Console(highlight=False, soft_wrap=True)
problems = Console(stderr=True, highlight=False, soft_wrap=True)


def emit(value: Any) -> None:
    """JSON for programs: one document on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def fail(sentence: str, hint: str = "", code: int = 1) -> NoReturn:
    """End with a sentence and what to do."""
    problems.print(f"[bold red]schemaseal:[/bold red] {escape(sentence)}")
    if hint:
        problems.print(f"  {escape(hint)}")
    raise typer.Exit(code)


def explained(command: Callable[P, T]) -> Callable[P, T]:
    """Failures of ours become a sentence and exit code 1, never a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except SchemasealError as error:
            fail(str(error), error.hint)

    return run
