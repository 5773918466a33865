"""The permission that streams give the applier: an order and a signature over exactly its bytes."""

from __future__ import annotations

from schemaseal.contracts import codec
from schemaseal.contracts.events import Change, ChangeReleased, ReleaseOrder
from schemaseal.sealing.signing import RELEASE_DOMAIN, Signer


def release(change: Change, signer: Signer) -> ChangeReleased:
    """The signed release of a change that `step` released. Deterministic: a repeat has the same bytes."""
    if change.release_id is None or change.deadline is None:
        raise ValueError("only a released change has an order")
    order = codec.encode(
        ReleaseOrder(
            release_id=change.release_id,
            change_id=change.change_id,
            target=change.target,
            operation=change.operation,
            commitment=change.request.commitment,
            base_identity=change.base_identity,
            deadline=change.deadline,
            policy_sha256=change.policy_sha256,
            votes=tuple(vote.decision_id for vote in change.votes),
            request=change.request,
        )
    )
    return ChangeReleased(order=order, key_id=signer.key_id, signature=signer.sign(RELEASE_DOMAIN, order))
