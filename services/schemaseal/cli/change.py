"""`schemaseal change …`: look at changes and decide, as a client of the decisions API."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape
from rich.table import Table

from schemaseal.cli.output import console, emit, explained, fail
from schemaseal.core.errors import SchemasealError
from schemaseal.core.ids import new_id

app = typer.Typer(help="Changes: list, show, approve, reject, withdraw, watch.", no_args_is_help=True)

Url = Annotated[str, typer.Option("--url", envvar="SCHEMASEAL_DECISIONS_URL", help="address of the decisions API")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="file with an access token")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Reason = Annotated[str | None, typer.Option("--reason", help="kept, masked, in the evidence")]
ChangeId = Annotated[str, typer.Argument(help="id of the change")]
DEFAULT_URL = "http://127.0.0.1:8086"


def _token(token_file: Path | None) -> str:
    try:
        token = token_file.read_text("utf-8").strip() if token_file else os.environ.get("SCHEMASEAL_TOKEN", "")
    except OSError as error:
        raise SchemasealError(f"the token file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SchemasealError("the token file holds no token: it is not text") from error
    if not token:
        raise SchemasealError(
            "no access token", hint="set SCHEMASEAL_TOKEN or --token-file; locally: schemaseal token bob"
        )
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise SchemasealError("the access token is not one: it has characters that no token has")
    return token


def _of(change_id: str) -> str:
    """The path of a change. An id that somebody pasted is one segment, whatever is in it."""
    return f"/v1/changes/{quote(change_id, safe='')}"


def _call(url: str, token_file: Path | None, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    import httpx

    token = _token(token_file)
    try:
        answer = httpx.request(
            method, url.rstrip("/") + path, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
    except httpx.InvalidURL as error:
        raise SchemasealError(
            f"the decisions API at {url}: this is no address ({error})", hint="set SCHEMASEAL_DECISIONS_URL"
        ) from error
    except httpx.HTTPError as error:
        raise SchemasealError(
            f"the decisions API at {url} does not answer ({type(error).__name__})", hint="set SCHEMASEAL_DECISIONS_URL"
        ) from error
    try:
        value = answer.json()
    except ValueError as error:
        raise SchemasealError(f"the decisions API at {url} gave no JSON ({answer.status_code})") from error
    if not isinstance(value, dict):
        raise SchemasealError(f"the decisions API at {url} gave no JSON object ({answer.status_code})")
    return answer.status_code, value


def _ok(status: int, body: Any, as_json: bool) -> Any:
    if status >= 400:
        if as_json:
            emit(body)
            raise typer.Exit(1)
        fail(str(body.get("detail", f"the decisions API answered {status}")), f"({body.get('code', status)})")
    return body


def _name(person: dict[str, Any] | None) -> str:
    return "" if person is None else str(person.get("name") or person["sub"])


@app.command("list")
@explained
def list_changes(
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    state: Annotated[str | None, typer.Option("--state", help="only changes in this state")] = None,
    as_json: Json = False,
) -> None:
    """Changes that were put before people."""
    query = f"?state={quote(state, safe='')}" if state else ""
    changes = _ok(*_call(url, token_file, "GET", f"/v1/changes{query}"), as_json)["changes"]
    if as_json:
        emit(changes)
        return
    table = Table(box=None)
    table.add_column("change", no_wrap=True)
    for name in ("state", "operation", "subject", "requester", "initiator", "approvals"):
        table.add_column(name, overflow="fold")
    for change in changes:
        row = (
            change["change_id"],
            change["state"],
            change["operation"],
            change["subject"] or "",
            _name(change["requester"]),
            _name(change["initiator"]),
            f"{change['approvals']} of {change['required']}",
        )
        table.add_row(*map(escape, row))  # names are chosen by others: shown, never read as markup
    console.print(table)


@app.command("show")
@explained
def show(change_id: ChangeId, url: Url = DEFAULT_URL, token_file: TokenFile = None, as_json: Json = False) -> None:
    """One change as an approver sees it: who, why, differences, findings. Values are masked."""
    change = _ok(*_call(url, token_file, "GET", _of(change_id)), as_json)
    if as_json:
        emit(change)
        return
    _render(change)


def _render(change: dict[str, Any]) -> None:
    console.print(
        f"[bold]{escape(change['operation'])}[/bold] " + escape(f"{change['subject'] or ''}  [{change['state']}]")
    )
    console.print(f"  requester   {_name(change['requester'])}", markup=False)
    if change["initiator"]:
        console.print(f"  initiator   {_name(change['initiator'])}", markup=False)
    if change["request_reason"]:
        console.print(f"  reason      {change['request_reason']}", markup=False)
    console.print(f"  rule        {change['rule']}: {change['why']}", markup=False)
    console.print(
        f"  approvals   {change['approvals']} of {change['required']} from {', '.join(change['groups'])}, "
        f"until {change['expires_at']}",
        markup=False,
    )
    console.print(f"  base        {change['base']}    commitment {change['commitment'][:16]}…", markup=False)
    for title in ("differences", "findings"):
        if change[title]:
            console.print(f"  {title}")
        for item in change[title]:
            for line in _told(item):
                console.print(line, markup=False)
    if change["hidden"]:
        console.print(f"  {change['hidden']} values are hidden in what is shown here")


def _told(item: dict[str, Any]) -> list[str]:
    """A difference or a finding in lines: what and where, before and after, and a document that shows it."""
    place = item.get("pointer_new") or item.get("pointer_old") or item.get("pointer")
    head = f"    • {item.get('code', 'difference')}" + (f" at {place}" if place else "")
    lines = [head + (f": {item['text']}" if item.get("text") else "")]
    lines += [
        f"        {label} {json.dumps(item[name], ensure_ascii=False)}"
        for name, label in (("old", "was"), ("new", "now"))
        if item.get(name) is not None
    ]
    if item.get("witness") is not None:
        told = {"narrows": "was accepted and no longer is", "widens": "is accepted now and was not"}
        example = json.dumps(item["witness"], ensure_ascii=False)
        lines.append(f"        for example {example}: {told.get(item.get('effect', ''), 'is judged otherwise now')}")
    return lines


def _decide(
    decision: str, change_id: str, reason: str | None, url: str, token_file: Path | None, as_json: bool
) -> None:
    change = _ok(*_call(url, token_file, "GET", _of(change_id)), as_json)
    if not as_json and decision == "approve":
        _render(change)
    body = {
        "decision": decision,
        "commitment": change["commitment"],  # of exactly what was just shown
        "reason": reason,
        "decision_id": new_id(),
    }
    path = _of(change_id) + "/decisions"
    outcome = _ok(*_call(url, token_file, "POST", path, body), as_json)
    if as_json:
        emit(outcome)
        return
    if "accepted" not in outcome:
        console.print(
            f"{decision}: recorded, and not judged yet; see `schemaseal change show {change_id}`", markup=False
        )
        return
    counted = outcome.get("approvals", 0)
    console.print(f"{decision}: counted; the change is now {outcome['state']} ({counted} of {change['required']})")


@app.command("approve")
@explained
def approve(
    change_id: ChangeId,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Approve exactly the bytes that `show` names."""
    _decide("approve", change_id, reason, url, token_file, as_json)


@app.command("reject")
@explained
def reject(
    change_id: ChangeId,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Reject; the reason reaches the client."""
    _decide("reject", change_id, reason, url, token_file, as_json)


@app.command("withdraw")
@explained
def withdraw(
    change_id: ChangeId,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Take back a change of your own."""
    _decide("withdraw", change_id, reason, url, token_file, as_json)


@app.command("watch")
@explained
def watch(
    change_id: ChangeId,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    timeout: Annotated[float, typer.Option("--timeout", help="seconds")] = 300.0,
    as_json: Json = False,
) -> None:
    """Wait until a change has come to its end; exit 0 when it was applied."""
    ends = {"applied", "failed", "denied", "rejected", "withdrawn", "expired", "lapsed", "superseded"}
    deadline = time.monotonic() + timeout
    state = ""
    while time.monotonic() < deadline:
        change = _ok(*_call(url, token_file, "GET", _of(change_id)), as_json)
        if change["state"] != state:
            state = change["state"]
            typer.echo(json.dumps({"state": state}) if as_json else state)
        if state in ends:
            raise typer.Exit(0 if state == "applied" else 1)
        time.sleep(0.5)
    fail(f"the change is still {state} after {timeout:.0f} s")
