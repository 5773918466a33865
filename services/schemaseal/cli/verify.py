"""`schemaseal verify`: the offline verifier with a progress bar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from schemaseal.cli.output import explained, fail


@explained
def verify(
    export: Annotated[Path, typer.Argument(help="directory written by `schemaseal audit export`")],
    key: Annotated[list[str] | None, typer.Option("--key", help="pinned verifier key of the log")] = None,
    against: Annotated[Path | None, typer.Option("--against", help="older checkpoint that you kept")] = None,
    max_age: Annotated[int | None, typer.Option("--max-age", help="seconds the last record may be old")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Check an export offline: nothing changed, removed, reordered or added. Exit 1 names the first bad record."""
    from rich.console import Console
    from rich.progress import Progress

    from schemaseal.verify import verify_export
    from schemaseal.verify.report import render

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as bar:
        tasks: dict[str, object] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done, total=total)  # type: ignore[arg-type]

        try:
            report = verify_export(
                export,
                vkeys=key or None,
                against=against.read_bytes() if against else None,
                now=datetime.now(UTC),
                max_age=None if max_age is None else timedelta(seconds=max_age),
                progress=progress,
            )
        except (OSError, ValueError) as error:
            fail(f"this cannot be verified: {error}", code=2)
    typer.echo(report.to_json() if as_json else render(report))
    raise typer.Exit(0 if report.ok else 1)
