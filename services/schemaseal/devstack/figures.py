"""Figures of a running local stack: time of a low-risk change beside the registry itself, and memory."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil

from schemaseal.devstack.registry import CONTENT_TYPE
from schemaseal.devstack.story import Stack


def _schema(number: int, path: str) -> str:
    return json.dumps(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"Measured{number}",
            "description": path,
            "type": "object",
            "properties": {f"field_{index}": {"type": "string"} for index in range(10)},
        }
    )


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))] * 1000,
    }


def _time(count: int, call: Callable[[int], None]) -> list[float]:
    taken = []
    for number in range(count):
        began = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - began)
    return taken


def path_figures(stack: Stack, count: int, mark: str = "") -> list[dict[str, Any]]:
    """First versions of new subjects, sequentially, through ingress and directly, in one run; `mark` is for repeats."""
    direct = stack.direct()
    token = stack.person("alice")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": CONTENT_TYPE}
    with httpx.Client(base_url=stack.deployment.ingress_url, headers=headers, timeout=60) as http:

        def through(number: int) -> None:
            body = json.dumps({"schema": _schema(number, f"{mark}ingress"), "schemaType": "JSON"})
            http.post(f"/subjects/measured-{mark}{number}-a/versions", content=body).raise_for_status()

        def straight(number: int) -> None:
            direct.register(f"measured-{mark}{number}-b", _schema(number, f"{mark}direct"))

        return [
            {"path": "registry directly"} | quantiles(_time(count, straight)),
            {"path": "through schemaseal"} | quantiles(_time(count, through)),
        ]


def memory_table(stack: Stack) -> dict[str, float]:
    """Resident megabytes per process of the stack."""
    pids: dict[str, int] = stack.status()["pids"]
    return {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in pids.items()}
