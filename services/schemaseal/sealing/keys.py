"""Keys of recipients and signers: one public file for all, private files for their owner alone.

Public file (JSON): `{"recipients": {name: [JWK, …]}, "signers": {name: [{"kid", "public"}, …]}}`; the last
entry of a list is the one in force, earlier ones stay so that old bytes can be opened and checked.
Private recipient key: an X25519 JWK (RFC 8037) in `sealing-<recipient>.jwk`, mode 0600, `kid`
`<recipient>/<epoch>`. Signing key: 32 raw bytes of Ed25519 seed in `signing.key`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from schemaseal.core.errors import KeyringError

RECIPIENTS = ("ingress", "streams", "applier", "custody")
SIGNERS = ("ingress", "streams")


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who can open a part: name and public key of the epoch in force."""

    name: str
    kid: str
    key: OKPKey = field(repr=False)


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    except OSError as error:
        raise KeyringError(f"key file {path.name} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyringError(f"key file {path.name} is readable by others", hint=f"chmod 600 {path}")
    return data


def generate_recipient(name: str, epoch: int, directory: Path) -> dict[str, Any]:
    """A new X25519 key: the private half to `directory`, the public JWK returned."""
    kid = f"{name}/{epoch}"
    key = OKPKey.generate_key("X25519", {"kid": kid, "use": "enc"})
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = json.dumps(key.as_dict(private=True)).encode()
    _write_private(directory / f"sealing-{name}.jwk", private)
    return cast("dict[str, Any]", key.as_dict(private=False))


def generate_seed(path: Path) -> bytes:
    """32 random bytes in a 0600 file: an Ed25519 seed or an HMAC key. Returned as well."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    seed = secrets.token_bytes(32)
    _write_private(path, seed)
    return seed


class PublicKeys:
    """All public keys of a deployment."""

    def __init__(self, document: dict[str, Any]) -> None:
        try:
            self._recipients = {
                name: [OKPKey.import_key(jwk) for jwk in jwks] for name, jwks in document["recipients"].items()
            }
            self._signers = {
                entry["kid"]: (name, bytes.fromhex(entry["public"]))
                for name, entries in document["signers"].items()
                for entry in entries
            }
        except Exception as error:
            raise KeyringError("the public key file is malformed", hint="write it anew with `schemaseal up`") from error

    @classmethod
    def load(cls, path: Path) -> PublicKeys:
        try:
            return cls(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise KeyringError(f"the public key file {path} cannot be read: {error}") from error

    def recipients(self, *names: str) -> Sequence[Recipient]:
        """The named recipients with their key in force. Raises `KeyringError` for an unknown name."""
        chosen = []
        for name in names:
            keys = self._recipients.get(name)
            if not keys:
                raise KeyringError(f"no public key for recipient {name}")
            chosen.append(Recipient(name, str(keys[-1].kid), keys[-1]))
        return chosen

    def signer(self, kid: str) -> tuple[str, bytes] | None:
        """Name and raw Ed25519 public key of a signer's key id, or None."""
        return self._signers.get(kid)


class PrivateKeys:
    """The private recipient keys one process owns, by key id."""

    def __init__(self, keys: dict[str, OKPKey]) -> None:
        self._keys = keys

    @classmethod
    def load(cls, directory: Path) -> PrivateKeys:
        """Every `sealing-*.jwk` of the directory. Raises `KeyringError`."""
        keys = {}
        for path in sorted(directory.glob("sealing-*.jwk")):
            try:
                key = OKPKey.import_key(json.loads(_read_private(path)))
            except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
                raise KeyringError(f"key file {path.name} is malformed") from error
            if not key.is_private or not key.kid:
                raise KeyringError(f"key file {path.name} holds no private key with an id")
            keys[str(key.kid)] = key
        return cls(keys)

    def get(self, kid: str) -> OKPKey | None:
        return self._keys.get(kid)

    def __contains__(self, kid: object) -> bool:
        return kid in self._keys
