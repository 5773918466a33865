"""Ingress: where registry clients point instead of the registry.

Invariants
* Nothing is forwarded, and no answer given, before the record of it is durable; where it cannot be, 503.
* A user's token never reaches a target; it travels only inside its own sealed part.
* Whatever is not authenticated and classified is refused, and the refusal is recorded.
* Ingress holds public keys and its own response key: it cannot open what it recorded.

`intake` and `answers` are pure; `gateway` is the order of things; `asgi` is HTTP. Here now: hold, attach by
streams, receipts, aggregated denials. To come in this room: streaming limits, smuggling rules beyond the
server's, spooled reads, batches of reads.
"""
