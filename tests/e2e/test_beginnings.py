"""What a new log begins with: the deployment itself, and what the registry held before."""

from __future__ import annotations

import hashlib
import json

from schemaseal.devstack.story import until
from tests.conftest import LEGACY
from tests.stack import LocalStack


def test_the_first_leaf_names_policy_issuers_and_keys(stack: LocalStack) -> None:
    with stack.sql() as sql:
        (found,) = sql.query("SELECT * FROM genesis").named_results()
    deployment = stack.deployment
    keys = json.loads((deployment.data / "public" / "keys.json").read_text("utf-8"))
    policy = (deployment.data / "public" / "policy.yaml").read_bytes()
    assert found["idx"] == 0
    assert found["policy_sha256"] == hashlib.sha256(policy).hexdigest()
    assert found["issuers"] == [deployment.issuer]
    assert found["log_vkey"] == deployment.vkey
    recipients = {name: [jwk["kid"] for jwk in jwks] for name, jwks in keys["recipients"].items()}
    assert json.loads(found["recipient_keys"]) == recipients
    assert json.loads(found["signing_keys"]).keys() == {"ingress", "streams"}
    assert found["exception"].startswith("not countersigned")


def test_what_the_registry_held_before_is_baseline(stack: LocalStack) -> None:
    def listed() -> list[tuple[str, int]] | None:
        with stack.sql() as sql:
            rows = sql.query("SELECT subject, version FROM baseline ORDER BY idx").result_rows
        return [(str(subject), int(version)) for subject, version in rows] if len(rows) >= 2 else None

    assert until("the baseline in evidence", listed) == [(LEGACY, 1), (LEGACY, 2)]
