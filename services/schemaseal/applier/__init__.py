"""Applier: the only holder of target credentials, and the only part that changes a target.

Invariants
* Nothing is sent but the stored copy of a request that streams signed a release for.
* `changes.applying` says "sending" before anything is sent and the outcome after; both acknowledged.
* One subject's releases go one after another; other subjects go on meanwhile.
* A send whose answer was lost is never repeated blindly: the target is asked what happened, and where
  nothing can tell the outcome is `unresolved`.
* A release whose signature, commitment, operation or target is wrong is refused, recorded and not sent.

Here now: the consumer, the journal, reads and bases for ingress, the inventory for the baseline. To come in
this room: circuit breaker per target, dry run, mTLS, rotation of credentials while running.
"""
