"""What a streams worker reads at start: keys, policy, masking rules."""

from __future__ import annotations

from datetime import timedelta

from schemaseal.core.errors import SettingsError
from schemaseal.core.ids import keyed_digest, mask_key_id
from schemaseal.core.settings import Settings, read_secret
from schemaseal.masking import MaskKeys, MaskRules
from schemaseal.risk.policy import load_policy
from schemaseal.sealing.keys import PrivateKeys
from schemaseal.sealing.signing import Signer
from schemaseal.streams.context import Context
from schemaseal.streams.gate import Gate


def build_context(settings: Settings) -> Context:
    """Raises `SettingsError`, `KeyringError` or the policy's own error when something is missing or wrong."""
    mask_key = read_secret(settings.secrets, "mask.key")
    kid = mask_key_id(mask_key)
    if settings.mask_key_id != kid:
        # Every change is stamped with the version in force: a wrong stamp would name a key that masked nothing.
        raise SettingsError(f"mask_key_id is {settings.mask_key_id!r}, the key is {kid}", hint=f"set it to {kid}")
    policy = load_policy(settings.policy_file.read_text("utf-8"))
    gate = Gate(
        rules=MaskRules(),
        keys=MaskKeys(kid=kid, key=mask_key),
        salt_key=keyed_digest(mask_key, b"salts"),
    )
    return Context(
        keys=PrivateKeys.load(settings.secrets),
        gate=gate,
        signer=Signer.load("streams", settings.secrets / "signing.key"),
        policies={policy.sha256: policy},
        targets={target.name: target for target in settings.targets},
        attach_window=timedelta(minutes=settings.attach_minutes),
        page_url=settings.page_url,
    )
