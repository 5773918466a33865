"""Kafka at the edge: a producer that tells when a record is durable, and consumers that commit by hand.

Example: `await producer.send(topics.ACTS, key, event, event_id=event.act_id)` returns once every in-sync
replica has the record, or raises `NotRecorded`.
"""

from schemaseal.contracts.records import Outgoing, Record
from schemaseal.core.kafka.admin import ensure_topics, topic_configs
from schemaseal.core.kafka.consumer import GroupConsumer, TopicTail, read_to_end
from schemaseal.core.kafka.producer import AckProducer, event_headers

__all__ = [
    "AckProducer",
    "GroupConsumer",
    "Outgoing",
    "Record",
    "TopicTail",
    "ensure_topics",
    "event_headers",
    "read_to_end",
    "topic_configs",
]
