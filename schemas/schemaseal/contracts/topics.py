"""Topic names, their value types, writers, readers and retention, as typed constants.

All `changes.*`, `approvals.*` and `timers.due` share one key, one partition count and one partitioner
(`murmur2_random`), because one agent must own everything of a subject.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemaseal.contracts import events as e

PARTITIONER = "murmur2_random"
LOG_LEVEL = 4  # of every client: warnings (syslog's number); librdkafka's own default tells of its buffers
DAY_MS = 24 * 60 * 60 * 1000
# Whoever runs `schemaseal topics` and `genesis` is the operator.
SERVICES = ("ingress", "streams", "applier", "decisions", "evidence", "operator")


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `keyed`: takes part in the common key and partition count; else one partition.

    Writers and readers are the services' principals at the broker (`schemaseal.core.kafka.acls`).
    """

    name: str
    value: type[e.Event]
    meaning: str
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    keyed: bool = True
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False


INTERCEPTED = Topic(
    "changes.intercepted",
    e.ChangeIntercepted,
    "an intercepted change",
    ("ingress",),
    ("streams",),
    retention_ms=14 * DAY_MS,
)
REQUESTED = Topic(
    "approvals.requested",
    e.ApprovalRequested,
    "a high-risk change that waits for people",
    ("streams",),
    ("decisions",),
    retention_ms=14 * DAY_MS,
)
DECIDED = Topic(
    "approvals.decided",
    e.ApprovalDecided,
    "one person's decision",
    ("decisions",),
    ("streams",),
    retention_ms=14 * DAY_MS,
)
RELEASED = Topic("changes.released", e.ChangeReleased, "signed permission to apply", ("streams",), ("applier",))
APPLYING = Topic(
    "changes.applying",
    e.ChangeApplying,
    "send journal and outcome",
    ("applier",),
    ("streams", "applier"),
)
STATUS = Topic(
    "changes.status",
    e.ChangeStatus,
    "a state somebody may wait for",
    ("streams",),
    ("ingress", "decisions"),
    # As long as the requests: a reader that starts anew would take what closed long ago for pending.
    retention_ms=14 * DAY_MS,
)
TIMERS = Topic("timers.due", e.TimerDue, "an expiry that is due", ("streams",), ("streams",))
ACTS = Topic("acts.observed", e.ActObserved, "anything else worth evidence", SERVICES, ("streams", "operator"))
EVIDENCE = Topic(
    "evidence",
    e.EvidenceEntry,
    "one leaf and what it refers to; the order here is the order of the log",
    ("streams",),
    ("evidence", "operator"),
    keyed=False,
    retention_ms=-1,
)
CHECKPOINTS = Topic(
    "evidence.checkpoints",
    e.LogCheckpoint,
    "signed checkpoint and the position it stands for",
    ("evidence",),
    ("evidence",),
    keyed=False,
    retention_ms=-1,
)
CONFIG = Topic(
    "config",
    e.ConfigVersion,
    "the version in force",
    ("streams",),
    SERVICES,
    keyed=False,
    retention_ms=-1,
    compacted=True,
)
QUARANTINE_STREAMS = Topic(
    "streams.quarantine",
    e.Quarantined,
    "position of a message that streams could not process",
    ("streams",),
    ("operator",),
    keyed=False,
    retention_ms=30 * DAY_MS,
)
QUARANTINE_APPLIER = Topic(
    "applier.quarantine",
    e.Quarantined,
    "position of a message that the applier could not process",
    ("applier",),
    ("operator",),
    keyed=False,
    retention_ms=30 * DAY_MS,
)
QUARANTINE_EVIDENCE = Topic(
    "evidence.quarantine",
    e.Quarantined,
    "position of a message that the evidence service could not process",
    ("evidence",),
    ("operator",),
    keyed=False,
    retention_ms=30 * DAY_MS,
)

TOPICS: tuple[Topic, ...] = (
    INTERCEPTED,
    REQUESTED,
    DECIDED,
    RELEASED,
    APPLYING,
    STATUS,
    TIMERS,
    ACTS,
    EVIDENCE,
    CHECKPOINTS,
    CONFIG,
    QUARANTINE_STREAMS,
    QUARANTINE_APPLIER,
    QUARANTINE_EVIDENCE,
)
BY_NAME = {topic.name: topic for topic in TOPICS}
