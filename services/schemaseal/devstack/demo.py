"""`make demo`: the main job on real parts, as a story in which every step is asserted.

Exit 0 when every assertion held; otherwise 1 and one plain sentence that says which did not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from schemaseal.devstack.demo_steps import STEPS
from schemaseal.devstack.deployment import free_ports
from schemaseal.devstack.figures import memory_table, path_figures
from schemaseal.devstack.story import StackFailed, running_stack
from schemaseal.devstack.telling import DemoFailed, Story


def tell(console: Console, title: str, step: Callable[[Story], list[str]], story: Story) -> None:
    """Run one step and print what it showed, with its time."""
    console.print(f"[bold]{title}[/bold]")
    began = time.monotonic()
    try:
        lines = step(story)
    except (DemoFailed, TimeoutError):
        raise
    except Exception as error:
        raise DemoFailed(f"in step {title}: {type(error).__name__}: {error}") from error
    for line in lines:
        console.print(f"   [green]✓[/green] {line}")
    console.print(f"   [dim]{time.monotonic() - began:.1f} s[/dim]")


def figures_table(figures: list[dict[str, Any]], count: int) -> Table:
    table = Table(title=f"Low-risk change, request to answer, {count} sequential", title_justify="left")
    for name in ("path", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "path" else "right")
    for row in figures:
        table.add_row(row["path"], f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}")
    return table


def memory_rows(memory: dict[str, float]) -> Table:
    table = Table(title="Resident memory", title_justify="left")
    table.add_column("process")
    table.add_column("MB", justify="right")
    for name, megabytes in memory.items():
        table.add_row(name, f"{megabytes:.0f}")
    return table


def run(data: Path, console: Console, *, changes: int) -> dict[str, Any]:
    """The whole story in a fresh data directory. Raises `DemoFailed` or `StackFailed`."""
    began = time.monotonic()
    console.print("[bold]1 schemaseal up: Kafka, ClickHouse engine, registry, identity provider, five services[/bold]")
    with running_stack(data, free_ports()) as stack:
        story = Story(stack)
        status = stack.status()
        for name, seconds in status["started"].items():
            console.print(f"   [green]✓[/green] {name:<20} ready after {seconds:5.1f} s")
        console.print(f"   [dim]{time.monotonic() - began:.1f} s[/dim]")
        for title, step in STEPS:
            tell(console, title, step, story)
        console.print("[bold]Figures[/bold]")
        figures = path_figures(stack, changes)
        memory = memory_table(stack)
        console.print(figures_table(figures, changes))
        console.print(memory_rows(memory))
    if stack.process is not None and stack.process.returncode != 0:
        raise DemoFailed(f"the stack ended with {stack.process.returncode} instead of 0; see {data / 'up.log'}")
    seconds = time.monotonic() - began
    console.print(f"[bold green]Every step held.[/bold green] {seconds:.0f} s in all.")
    return {"seconds": seconds, "figures": figures, "memory_mb": memory, "started": status["started"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="data directory to use and to leave behind")
    parser.add_argument("--changes", type=int, default=200, help="low-risk changes to time")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    options = parser.parse_args()
    console = Console(highlight=False)
    data = options.keep or Path(tempfile.mkdtemp(prefix="schemaseal-demo-"))
    try:
        result = run(data, console, changes=options.changes)
    except (DemoFailed, StackFailed, TimeoutError) as error:
        console.print(f"[bold red]The demo failed:[/bold red] {error}", markup=True)
        console.print(f"Logs are in {data / 'logs'}.")
        return 1
    if options.keep is None:
        shutil.rmtree(data, ignore_errors=True)
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
