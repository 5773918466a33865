"""`schemaseal up`, `token`: the local stack. `topics`, `genesis`: the first steps of any deployment."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemaseal.cli.output import console, emit, explained, fail
from schemaseal.core.errors import SchemasealError

if TYPE_CHECKING:
    from schemaseal.devstack.deployment import Deployment
    from schemaseal.devstack.supervisor import Child

Data = Annotated[Path, typer.Option("--data", envvar="SCHEMASEAL_DATA", help="directory of the local stack")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
DEFAULT_DATA = Path(".data")


@explained
def up(
    data: Data = DEFAULT_DATA,
    ports: Annotated[str, typer.Option("--ports", help="default, or auto for free ones")] = "default",
    as_json: Json = False,
) -> None:
    """The whole gateway on this machine: real Kafka, registry, ClickHouse engine. Ctrl-C ends it."""
    from schemaseal.devstack.deployment import free_ports, held, known_ports, open_deployment

    if ports not in ("default", "auto"):
        fail("--ports is `default` or `auto`", code=2)
    with held(data), contextlib.suppress(KeyboardInterrupt):
        deployment = open_deployment(data, free_ports(known_ports(data)) if ports == "auto" else None)
        try:
            asyncio.run(_run(deployment, _children(deployment, as_json), as_json))
        except OSError as error:
            raise SchemasealError(
                f"the local stack cannot go on: {error.strerror or error}",
                hint=f"is the disk of {deployment.data} full?" if error.errno == errno.ENOSPC else "",
            ) from error
    if not as_json:
        console.print("Everything has ended.")


def _children(deployment: Deployment, as_json: bool) -> list[Child]:
    """Before the event loop, so that Ctrl-C ends a download at once."""
    from schemaseal.devstack.up import children

    def say(text: str) -> None:
        if not as_json:
            console.print(f"  … {text}")

    extra = json.loads(os.environ.get("SCHEMASEAL_UP_ENVIRONMENT", "{}"))
    return children(deployment, extra, say)


async def _run(deployment: Deployment, stack: list[Child], as_json: bool) -> None:
    from schemaseal.devstack.supervisor import Supervisor
    from schemaseal.devstack.up import write_ready

    def started(name: str, seconds: float) -> None:
        if not as_json:
            console.print(f"  [green]✓[/green] {name:<12} {seconds:5.1f} s")

    supervisor = Supervisor(stack, started)
    supervisor.check(deployment.data)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(ended.wait())
    ready = deployment.data / "ready.json"
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            write_ready(deployment, supervisor)
            _welcome(deployment, as_json)
            dying = asyncio.create_task(supervisor.wait())
            await asyncio.wait({dying, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if dying.done():
                dying.result()
            dying.cancel()
        else:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
    finally:
        stopping.cancel()
        ready.unlink(missing_ok=True)
        await supervisor.stop()


def _welcome(deployment: Deployment, as_json: bool) -> None:
    addresses = {
        "ingress": deployment.ingress_url,
        "decisions": deployment.decisions_url,
        "identity provider": deployment.issuer,
        "clickhouse": f"http://127.0.0.1:{deployment.ports.clickhouse}",
        "kafka": deployment.bootstrap,
    }
    if as_json:
        emit({"ready": True, "data": str(deployment.data), "addresses": addresses, "log_vkey": deployment.vkey})
        return
    data = deployment.data
    console.print("\n[bold]schemaseal is up.[/bold] Point your registry client at ingress, with your own token.")
    for name, address in addresses.items():
        console.print(f"  {name:<18} {address}")
    console.print("  people             alice (engineer), bob and carol (schema owners), ana (auditor); machine: ci")
    console.print("Try:")
    console.print(
        f'  curl -H "Authorization: Bearer $(schemaseal token alice --data {data})" {deployment.ingress_url}/subjects'
    )
    console.print(
        f"  SCHEMASEAL_TOKEN=$(schemaseal token bob --data {data}) "
        f"schemaseal change list --url {deployment.decisions_url}"
    )
    console.print(f"  schemaseal audit export --data {data} --out export && schemaseal verify export")
    console.print("Ctrl-C ends everything.")


@explained
def token(
    who: Annotated[str, typer.Argument(help="alice, bob, carol, ana or ci")],
    data: Data = DEFAULT_DATA,
    run_by: Annotated[str | None, typer.Option("--run-by", help="for ci: the person who set it off")] = "alice",
    as_json: Json = False,
) -> None:
    """An access token of the local identity provider, for trying things."""
    from schemaseal.devstack.deployment import open_deployment
    from schemaseal.devstack.tokens import fetch_client_token, fetch_token

    if not (data / "deployment.json").exists():
        fail(f"there is no local stack in {data}", "start one with `schemaseal up`")
    deployment = open_deployment(data)
    clients = json.loads((deployment.secrets("operator") / "clients.json").read_text("utf-8"))
    try:
        users = json.loads((deployment.data / "oidc" / "users.json").read_text("utf-8"))
    except OSError as error:
        raise SchemasealError("the local stack was never started", hint="start it with `schemaseal up`") from error
    if who in clients:
        tokens = fetch_client_token(deployment.issuer, who, clients[who], run_by=run_by)
    elif who in users:
        tokens = fetch_token(deployment.issuer, who, users[who])
    else:
        fail(f"nobody is called {who} here", f"known: {', '.join([*users, *clients])}", code=2)
    if as_json:
        emit({"access_token": tokens.access_token, "expires_in": tokens.expires_in})
    else:
        typer.echo(tokens.access_token)


@explained
def topics(
    as_json: Json = False,
    acls: Annotated[bool, typer.Option("--acls", help="print the broker's access rules instead")] = False,
) -> None:
    """Create the topics that are missing (settings by SCHEMASEAL_CONFIG)."""
    from schemaseal.core.kafka import ensure_topics
    from schemaseal.core.kafka.acls import acls as access_rules
    from schemaseal.core.settings import load_settings

    if acls:
        settings = load_settings()
        rules = access_rules(settings.deployment)
        if as_json:
            emit([asdict(rule) for rule in rules])
        else:
            typer.echo("\n".join(rule.command(settings.kafka.bootstrap) for rule in rules))
        return
    created = ensure_topics(load_settings())
    if as_json:
        emit({"created": created})
    else:
        console.print("created: " + ", ".join(created) if created else "every topic is there")


@explained
def genesis(as_json: Json = False) -> None:
    """Write the first leaf and the registry's content as baseline, if the log is empty (settings by SCHEMASEAL_CONFIG).

    Streams, applier and evidence must run; ingress must not yet.
    """
    from schemaseal.core.settings import load_settings
    from schemaseal.evidence.genesis import write_genesis

    settings = load_settings()
    vkey = settings.public_keys.with_name("log.vkey")
    try:
        key = vkey.read_text("utf-8").strip()
    except OSError as error:
        raise SchemasealError(
            f"the log's verifier key cannot be read: {error.strerror}", hint=f"put it at {vkey}, beside the public keys"
        ) from error
    written = asyncio.run(write_genesis(settings, key))
    if as_json:
        emit({"baseline": written})
    else:
        console.print(f"genesis is in the log; {written} versions recorded as baseline now")
