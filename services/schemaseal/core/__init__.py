"""Core: what every part stands on — errors, clock, ids, settings, telemetry, Kafka producer and consumer.

Invariant: imports nothing of ours but `schemaseal.contracts`.
"""
