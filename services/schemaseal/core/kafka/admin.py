"""Topics as the contracts name them: created when missing, checked when there."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemaseal.contracts.topics import LOG_LEVEL, TOPICS, Topic
from schemaseal.core.errors import SchemasealError
from schemaseal.core.settings import Settings

_TIMEOUT = 15


class TopicMismatch(SchemasealError):  # noqa: N818
    """A topic exists with another partition count: keys would land elsewhere."""


def topic_configs(topic: Topic, *, message_limit: int, min_insync: int) -> dict[str, str]:
    """Broker settings of one topic. Record time is the broker's (`LogAppendTime`): expiry depends on it."""
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(message_limit),
        "min.insync.replicas": str(min_insync),
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }


def ensure_topics(settings: Settings) -> list[str]:
    """Create what is missing; returns their names. Raises `TopicMismatch` on a wrong partition count."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap, "log_level": LOG_LEVEL})
    existing = admin.list_topics(timeout=_TIMEOUT).topics
    wanted = []
    for topic in TOPICS:
        partitions = settings.kafka.partitions if topic.keyed else 1
        there = existing.get(topic.name)
        if there is None:
            wanted.append(
                NewTopic(
                    topic.name,
                    num_partitions=partitions,
                    replication_factor=settings.kafka.replication,
                    config=topic_configs(
                        topic, message_limit=settings.message_limit, min_insync=settings.kafka.min_insync
                    ),
                )
            )
        elif len(there.partitions) != partitions:
            raise TopicMismatch(
                f"topic {topic.name} has {len(there.partitions)} partitions, the settings say {partitions}",
                hint="keep the partition count for the life of a deployment",
            )
    if wanted:
        for name, future in admin.create_topics(wanted, operation_timeout=_TIMEOUT).items():
            try:
                future.result(timeout=_TIMEOUT)
            except KafkaException as error:
                raise SchemasealError(f"topic {name} could not be created: {error}") from error
    return [topic.topic for topic in wanted]
