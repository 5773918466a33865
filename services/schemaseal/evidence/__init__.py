"""Evidence: the sequencer that turns the `evidence` partition into a signed log, and the ClickHouse store.

Invariants
* The record in `evidence.checkpoints` is the only position; it is committed in one transaction with itself.
* Nothing is signed that was not read back, and no tree that does not extend the last signed one.
* When store, topic and checkpoint disagree, the service stops and says so.

To come in this room: reconcile, audit package, witnesses' cosignatures, tiles.
"""
