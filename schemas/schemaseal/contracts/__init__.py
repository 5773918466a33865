"""Contracts: what travels between the parts, and nothing about how.

Invariants
* Every event on a topic is one Avro record in single-object encoding (`codec`); its schema lies in `avsc/`.
* A schema that was ever released stays in `history/`, so that old events can always be read (`compat`).
* Anything a person or a program typed travels inside a `SealedPart`; clear fields are ids, digests under a
  key, enumerations and numbers.

Example: `codec.encode(TimerDue(change_id=…, what="expiry", due_at=…))` gives the bytes for `timers.due`.
"""
