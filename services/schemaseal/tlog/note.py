"""Signed notes and verifier keys, C2SP signed-note (https://c2sp.org/signed-note), Ed25519.

A note is a text ending in a newline, an empty line, and signature lines `— <name> <base64>`; the base64
holds a 4-byte key id and the signature over the text. A verifier key is `<name>+<hex id>+<base64 of type
byte and public key>`. What a note says may be used only after `verify_note` or `open_note` returned.

`split_note` reads the grammar alone and vouches for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemaseal.tlog.errors import NoteError, SignatureError
from schemaseal.tlog.strict import WHITE_SPACE, decode_base64, encode_base64, has_control

ED25519 = 0x01  # signature type of the specification's table
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100  # the specification asks for at least 16
MAX_NAME_CHARS = 1_000
_KEY_ID_BYTES = 4
_EM_DASH_SPACE = "\u2014 "
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A known public key: `key_id` 4 bytes, `signature_type` the table's byte, `public_key` raw."""

    name: str
    key_id: bytes
    signature_type: int
    public_key: bytes

    def __str__(self) -> str:
        material = encode_base64(bytes([self.signature_type]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{material}"

    def verify(self, text: bytes, signature: bytes) -> bool:
        """True if `signature` over `text` is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line as read; nothing says yet that it is right."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note whose text at least one known key signed. `signed_by` in the order of the lines."""

    text: str
    signed_by: tuple[VerifierKey, ...]
    unknown: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 key with the name it signs as."""

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)

    @classmethod
    def generate(cls, name: str) -> Signer:
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Signer:
        """From the 32-byte private key of RFC 8032. Raises `ValueError` for another length."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def key(self) -> VerifierKey:
        public = self.private_key.public_key().public_bytes_raw()
        return VerifierKey(self.name, _key_id(self.name, ED25519, public), ED25519, public)

    @property
    def vkey(self) -> str:
        """What others pin to verify this signer's notes."""
        return str(self.key)

    def sign(self, text: bytes) -> bytes:
        """The bare signature over a note's text."""
        return self.private_key.sign(text)


def make_vkey(name: str, public_key: bytes) -> str:
    """The verifier key text of a raw 32-byte Ed25519 public key. Raises `NoteError`."""
    _check_name(name)
    if len(public_key) != 32:
        raise NoteError("an Ed25519 public key has 32 bytes")
    return str(VerifierKey(name, _key_id(name, ED25519, public_key), ED25519, public_key))


def parse_vkey(text: str) -> VerifierKey:
    """A verifier key from its text, without a newline.

    Raises `NoteError`, also if the id is not that of name and key.
    """
    parts = text.split("+", 2)  # the base64 may itself contain a plus
    if len(parts) != 3:
        raise NoteError("a verifier key is <name>+<id>+<key>")
    name, key_id, material = parts
    _check_name(name)
    if len(key_id) != 2 * _KEY_ID_BYTES or not _HEX.issuperset(key_id):
        raise NoteError("a key id has eight lower-case hex digits")
    try:
        data = decode_base64(material)
    except ValueError as error:
        raise NoteError(f"key material: {error}") from error
    if data[:1] != bytes([ED25519]):
        raise NoteError("key of another type than Ed25519 (0x01)")
    public_key = data[1:]
    if len(public_key) != 32:
        raise NoteError("an Ed25519 public key has 32 bytes")
    key = VerifierKey(name, _key_id(name, ED25519, public_key), ED25519, public_key)
    if key.key_id.hex() != key_id:
        raise NoteError("the key id does not belong to this name and key")
    return key


def sign_note(text: str, signers: Sequence[Signer]) -> bytes:
    """The note with one signature line per signer, in their order. Raises `NoteError`."""
    data = _encoded(text)
    if not text.endswith("\n"):
        raise NoteError("a note's text ends in a newline")
    if has_control(text, allowed="\n"):
        raise NoteError("control character in a note")
    if not signers:
        raise NoteError("a note has at least one signature")
    lines = [signature_line(signer.key, signer.sign(data)) for signer in signers]
    note = data + b"\n" + "".join(lines).encode()
    if len(note) > MAX_NOTE_BYTES or len(lines) > MAX_SIGNATURES:
        raise NoteError("too large for a note")
    return note


def signature_line(key: VerifierKey, signature: bytes) -> str:
    """One signature line with its newline."""
    return f"{_EM_DASH_SPACE}{key.name} {encode_base64(key.key_id + signature)}\n"


def split_note(note: bytes) -> tuple[str, tuple[Signature, ...]]:
    """Text and signature lines of a note, unverified. Raises `NoteError` outside the grammar."""
    if len(note) > MAX_NOTE_BYTES:
        raise NoteError(f"a note of {len(note)} bytes is over the limit")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteError("a note is UTF-8") from error
    if has_control(whole, allowed="\n"):
        raise NoteError("control character in a note")
    # The text may hold empty lines; the last one of the note ends it.
    end = whole.rfind("\n\n")
    if end < 0:
        raise NoteError("no empty line before the signatures")
    text, block = whole[: end + 1], whole[end + 2 :]
    if not block.endswith("\n"):
        raise NoteError("the last signature line has no newline, or there is none")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"{len(lines)} signatures are over the limit")
    return text, tuple(_parse_signature(line) for line in lines)


def open_note(note: bytes, keys: Iterable[VerifierKey | str]) -> OpenedNote:
    """Verifies a note against known keys.

    Every signature line that carries the name and id of a known key must be right; lines of unknown keys
    are ignored; at least one known key must have signed. Raises `NoteError` for the grammar and
    `SignatureError` for the rest.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for item in keys:
        key = parse_vkey(item) if isinstance(item, str) else item
        if known.setdefault((key.name, key.key_id), key) != key:
            raise NoteError(f"two known keys are both {key.name}+{key.key_id.hex()}")
    text, signatures = split_note(note)
    data = text.encode("utf-8")
    signed_by: list[VerifierKey] = []
    unknown: list[Signature] = []
    for line in signatures:
        found = known.get((line.name, line.key_id))
        if found is None:
            unknown.append(line)
        elif not found.verify(data, line.signature):
            raise SignatureError(f"wrong signature of known key {found.name}+{found.key_id.hex()}")
        elif found not in signed_by:
            signed_by.append(found)
    if not signed_by:
        raise SignatureError("no known key signed this note")
    return OpenedNote(text, tuple(signed_by), tuple(unknown))


def verify_note(note: bytes, vkeys: Iterable[VerifierKey | str]) -> str:
    """The text of a note that a known key signed; see `open_note`."""
    return open_note(note, vkeys).text


def _parse_signature(line: str) -> Signature:
    if not line.startswith(_EM_DASH_SPACE):
        raise NoteError("a signature line begins with an em dash and a space")
    name, space, encoded = line[len(_EM_DASH_SPACE) :].partition(" ")
    if not space:
        raise NoteError("a signature line has a name and a signature")
    _check_name(name)
    try:
        data = decode_base64(encoded)
    except ValueError as error:
        raise NoteError(f"signature: {error}") from error
    if len(data) <= _KEY_ID_BYTES:
        raise NoteError("a signature has a key id and at least one byte more")
    return Signature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME_CHARS:
        raise NoteError("a key name is not empty and not over the limit")
    if "+" in name or not WHITE_SPACE.isdisjoint(name) or has_control(name):
        raise NoteError("a key name has no space, plus or control character")
    _encoded(name)


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate
        raise NoteError("not representable in UTF-8") from error


def _key_id(name: str, signature_type: int, public_key: bytes) -> bytes:
    data = name.encode("utf-8") + b"\n" + bytes([signature_type]) + public_key
    return hashlib.sha256(data).digest()[:_KEY_ID_BYTES]
