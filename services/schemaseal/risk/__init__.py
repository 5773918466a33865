"""Risk: what a change does to documents that exist, what it exposes, and what policy says to it.

Invariants
* Pure: texts and values in, values out. Nothing is fetched, whatever a schema refers to.
* Sound where it says yes: what is not understood is `unknown`, never compatible.
* Bounded: steps, depth and size are counted; a hostile schema ends as `unknown`, always the same way.
* Findings and reasons hold no value of the payload; `summarize` is the only way out for parts of it.

Example: `diff('{"type": "integer"}', '{"type": "number"}')` has `backward == "yes"`, `forward == "no"` and one
difference, `type-widened`, with the witness `0.5`.
"""

from schemaseal.risk.compare import diff
from schemaseal.risk.decision import Decision, Facts, decide
from schemaseal.risk.exposure import findings
from schemaseal.risk.policy import Requirement
from schemaseal.risk.summary import summarize

__all__ = ["Decision", "Facts", "Requirement", "decide", "diff", "findings", "summarize"]
