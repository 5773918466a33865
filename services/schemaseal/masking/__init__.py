"""Masking: sensitive values leave a body before anything of it is written in clear. Pure, no I/O, stdlib only.

Invariants
* Nothing here raises: what cannot be read, or costs too much, becomes a stub with a keyed digest.
* Tokens are spliced into the raw text; every byte outside a span stays (big integers, duplicate keys, white space).
* Masking is idempotent and deterministic: limits count work, never seconds, so a repeat writes the same bytes.
* `residue` looks at masked output again and shares no code with the rest of the room.

Here now: CARD, SSN (with ITIN), EMAIL, SECRET by pattern; SECRET, IBAN and others by field name; JSON with nested
JSON strings, plain text, forms; `\\u` escapes, Unicode digits, zero-width characters, percent-encoding.

To come: IBAN, phone, IP address and routing numbers by pattern, values in base64, national ids as plugins, annotations
(`x-sensitive`, `confluent:tags`, `writeOnly`), bounds that are kept in schema position, high entropy beside a naming
key, `{"name": …, "value": …}` pairs, a prefilter over raw bytes. Twelve-digit cards, quoted e-mail local parts and
cards glued to further digits are not found.

Example::

    masked = mask(b'{"card": "4111 1111 1111 1111"}', "application/json", MaskRules(), MaskKeys("K1", key))
    masked.body  # {"card": "CARD~K1~…"}
"""

from schemaseal.masking.engine import find, find_text, mask, mask_text
from schemaseal.masking.model import Entry, Manifest, Masked, MaskKeys, MaskRules, Span
from schemaseal.masking.names import is_sensitive_name
from schemaseal.masking.residue import residue

__all__ = [
    "Entry",
    "Manifest",
    "MaskKeys",
    "MaskRules",
    "Masked",
    "Span",
    "find",
    "find_text",
    "is_sensitive_name",
    "mask",
    "mask_text",
    "residue",
]
