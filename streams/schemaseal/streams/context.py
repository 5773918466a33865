"""What the pipeline knows besides event and state: keys, policies, targets. Built once at start, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from schemaseal.core.settings import TargetSettings
from schemaseal.risk.policy import Policy
from schemaseal.sealing.keys import PrivateKeys
from schemaseal.sealing.signing import Signer
from schemaseal.streams.gate import Gate

DETECTORS = "masking/1"


@dataclass(frozen=True, slots=True)
class Context:
    """`policies` by SHA-256 (hex): a change is judged by the version that ingress stamped on it."""

    keys: PrivateKeys
    gate: Gate
    signer: Signer
    policies: dict[str, Policy]
    targets: dict[str, TargetSettings]
    attach_window: timedelta
    page_url: str = ""
