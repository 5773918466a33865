"""`schemaseal audit …`: take evidence away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemaseal.cli.output import console, emit, explained

app = typer.Typer(help="Evidence for auditors.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `audit export` a command of its own while it is the only one."""


@app.command("export")
@explained
def export(
    out: Annotated[Path, typer.Option("--out", help="directory to write; must not exist")],
    data: Annotated[Path, typer.Option("--data", envvar="SCHEMASEAL_DATA", help="the local stack's directory")] = Path(
        ".data"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write everything up to the latest checkpoint, for `schemaseal verify`."""
    from rich.progress import Progress

    from schemaseal.devstack.deployment import open_deployment
    from schemaseal.evidence.export import export_log
    from schemaseal.evidence.store import EvidenceStore

    deployment = open_deployment(data)
    settings = deployment.settings()
    store = EvidenceStore.connect(
        settings.clickhouse.model_copy(update={"user": "admin"}), deployment.clickhouse_password("admin")
    )
    with Progress(transient=True, disable=as_json) as bar:
        task = bar.add_task("exporting", total=None)
        size = export_log(
            store,
            settings.origin,
            deployment.vkey,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        emit({"size": size, "out": str(out)})
    else:
        console.print(f"{size} records in {out}. Verify them with:\n  schemaseal verify {out} --key {deployment.vkey}")
