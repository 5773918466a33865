"""Streams: the stream processors that decide what happens to a change and that alone write evidence.

* `assess` (pure): unsealed request and base → masked views, differences, findings, policy's decision.
* `pipeline` (pure): one event and the subject's state → new state and the records to write.
* `gate` (pure): the one place where anything becomes an evidence entry; masks, and looks again.
* `table`, `app`: wiring. One Faust agent reads all keyed topics and owns the table of subjects.

Order in the agent: outputs acknowledged → table written → event acknowledged. A crash anywhere repeats the
event, and a repeat writes the same ids and bytes.
"""
