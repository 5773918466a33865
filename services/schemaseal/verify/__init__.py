"""The offline verifier: what an auditor runs on an export, with public keys and nothing else.

Invariants
* It imports `schemaseal.tlog`, the standard library and `cryptography`; none of what it verifies. A test
  runs it in a process of its own without sockets.
* It streams: no table of all leaves, bodies or sealed parts is held, only digests.
* A verdict is never better than its weakest proof. Without a pinned key the export can at best agree with
  itself, and the report says so.

Example::

    report = verify_export(path, vkeys=[pinned], against=None, now=datetime.now(UTC), max_age=None)
    report.ok, report.first_bad_index, report.to_json()

The same from a shell: `python -m schemaseal.verify EXPORT --key VKEY`. The layout of an export is in
`export_format`. Cosignatures under a witness policy, receipts, proofs against tiles and a live database,
and reading on several cores will be here too; they are not yet.
"""

from schemaseal.verify.report import Finding, Report, Status, StepResult, Verdict
from schemaseal.verify.verifier import STEPS, verify_export

__all__ = ["STEPS", "Finding", "Report", "Status", "StepResult", "Verdict", "verify_export"]
