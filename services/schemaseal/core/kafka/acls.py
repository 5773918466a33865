"""Who may do what at the broker, derived from the topics: streams alone write `evidence`, and so on.

For a production broker with an authorizer, where every service logs in as its own principal. The broker of the local
stack has no access control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemaseal.contracts.topics import TOPICS

Resource = Literal["topic", "group", "transactional-id", "cluster"]


@dataclass(frozen=True, slots=True)
class Acl:
    """One permission of Kafka's own kind; `prefixed`: for all names that begin like this one."""

    principal: str
    operations: tuple[str, ...]
    resource: Resource
    name: str
    prefixed: bool = False

    def command(self, bootstrap: str) -> str:
        """The line that gives it, for the tool that comes with Kafka."""
        words = [
            "kafka-acls.sh",
            "--bootstrap-server",
            bootstrap,
            "--add",
            "--allow-principal",
            f"User:{self.principal}",
        ]
        for operation in self.operations:
            words += ["--operation", operation]
        words.append(f"--{self.resource}")
        if self.resource != "cluster":
            words.append(self.name)
        if self.prefixed:
            words += ["--resource-pattern-type", "prefixed"]
        return " ".join(words)


def acls(deployment: str) -> list[Acl]:
    """Everything that a deployment's services need, and nothing else."""
    found = []
    for topic in TOPICS:
        found += [Acl(principal, ("Write", "Describe"), "topic", topic.name) for principal in topic.written_by]
        found += [Acl(principal, ("Read", "Describe"), "topic", topic.name) for principal in topic.read_by]
    worker = f"schemaseal-streams-{deployment}"
    return [
        *found,
        Acl("operator", ("Create", "DescribeConfigs"), "cluster", "kafka-cluster"),
        # The table's changelog and what Faust keeps beside it.
        Acl("streams", ("Create", "Read", "Write", "Describe", "DescribeConfigs"), "topic", worker, prefixed=True),
        Acl("streams", ("Read",), "group", worker, prefixed=True),
        Acl("applier", ("Read",), "group", "applier"),
        Acl("evidence", ("Write", "Describe"), "transactional-id", "schemaseal-evidence"),
        *(Acl(name, ("Read",), "group", "schemaseal-", prefixed=True) for name in ("ingress", "decisions", "evidence")),
        *(Acl(name, ("Read",), "group", "schemaseal-", prefixed=True) for name in ("applier", "operator")),
    ]
