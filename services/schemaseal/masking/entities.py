"""Exact patterns and validators over folded text. Every pattern is linear: bounded, or possessive with one start.

No pattern asks for a word boundary in front: in `\\n4111…`, `card4111…` and `?card=4111…` the character before is a
letter or `=`, and a value missed is worse than a value masked too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemaseal.masking.model import LimitError
from schemaseal.masking.names import is_sensitive_name
from schemaseal.masking.tokens import OWN

Found = tuple[int, int, str]

# Forms of machines in which digits mean nothing: digests with their letters, UUIDs, dates.
_HEX = r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})(?![0-9A-Za-z])"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?![0-9A-Za-z])"
_MACHINE = re.compile(rf"(?i:(?<![0-9A-Za-z])(?:{_HEX}|{_UUID}))")
_DATE = re.compile(r"(?<![0-9-])(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9](?![0-9])")
_LETTER = re.compile(r"[A-Fa-f]")

_RUN = re.compile(r"[0-9](?:[ -]{0,3}+[0-9]){12,}+")
_GROUP = re.compile(r"[0-9]+")
_MAX_GROUPS = 4000
_ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|5[1-5][0-9]{14}|(?:222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720|220[0-4])[0-9]{12}"
    r"|3[47][0-9]{13}"
    r"|3(?:0[0-5][0-9]|[689][0-9]{2})[0-9]{10}(?:[0-9]{2,5})?"
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"
    r"|(?:6011|60[0-9]{2}|62[0-9]{2}|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"
    r"|(?:5018|5020|5038|508[0-9]|5893|6304|6759|676[1-3])[0-9]{9,15}"
)
_DOUBLED = str.maketrans("0123456789", "0246813579")

# Area 000, 666 and 9xx are not given out, except 9xx with the groups of an ITIN; group 00 and serial 0000 never.
_SSN = re.compile(
    r"(?<![0-9])(?<![0-9]-)"
    r"(?:(?!000|666|9)[0-9]{3}([- ])(?!00)[0-9]{2}|9[0-9]{2}([- ])(?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9]))"
    r"(?:\1|\2)(?!0000)[0-9]{4}(?![0-9])(?!-[0-9])"
)
_DOMAIN = re.compile(r"@(?:[\w-]{1,63}+\.)+[^\W\d_]{2,24}")
_LOCAL_TAIL = re.compile(r"[\w.+%'!#$*^-]+\Z")

_JWT = re.compile(
    r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]++){0,2}"
)
_SCHEME = re.compile(r"(?i:bearer|basic)[ \t]{1,8}([A-Za-z0-9._~+/=-]{8,}+)")
_PEM_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY")
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?(?:-----)?")
_PROVIDER = re.compile(
    r"A(?:KI|SI)A[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,64}"
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|xox[abprs]-[A-Za-z0-9-]{10,255}|AIza[A-Za-z0-9_-]{35}"
)
_URL_PASSWORD = re.compile(r"://[^/\s:@\"'<>]{0,128}:([^/\s@\"'<>]{1,256})@")
_NAMED = re.compile(
    r"(?<![\w.-])([A-Za-z_][\w.-]{1,63})[\"']?[ \t]{0,3}([=:])[ \t]{0,3}[\"']?"
    r"(?:(?i:bearer|basic|digest|token|apikey)[ \t]{1,8})?"
    # A scheme that is left before a token is not a value.
    r"(?!(?i:bearer|basic|digest|token|apikey)[ \t])([^\s\"'&<>;,\0{}\[\]]++)"
)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B. The doubled digits sum like their cross sums."""
    odd, even = digits[-1::-2], digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, odd)) + sum(map(int, even))) % 10 == 0


def is_card(digits: str) -> bool:
    """Thirteen to nineteen ASCII digits in an issuer's range with a right check digit."""
    return _ISSUERS.fullmatch(digits) is not None and luhn(digits)


def _blank(match: re.Match[str]) -> str:
    return "\0" * len(match[0])


def _blank_machine(match: re.Match[str]) -> str:
    # Thirty-two digits with hardly a letter are no digest: those have about twelve.
    word = match[0]
    return "\0" * len(word) if "-" in word or len(_LETTER.findall(word)) >= 3 else word


def blanked(text: str) -> str:
    """The text with own tokens and machines' forms made invisible, at the same length."""
    if "~" in text:
        text = OWN.sub(_blank, text)
    return _DATE.sub(_blank, _MACHINE.sub(_blank_machine, text))


def _cards(text: str) -> Iterator[Found]:
    for run in _RUN.finditer(text):
        start = run.start()
        groups = [match.span() for match in _GROUP.finditer(text, start, run.end())]
        if len(groups) > _MAX_GROUPS:
            raise LimitError("digits")
        fraction = start >= 2 and text[start - 1] == "." and text[start - 2].isdigit()
        for first, (begin, _) in enumerate(groups):
            if text[begin] not in "23456":
                continue
            digits = ""
            for last in range(first, len(groups)):
                digits += text[slice(*groups[last])]
                if len(digits) > 19:
                    break
                # `0.4111111111111111` is a fraction.
                if len(digits) >= 13 and not (fraction and last == 0) and is_card(digits):
                    yield begin, groups[last][1], "CARD"


def _emails(text: str) -> Iterator[Found]:
    for match in _DOMAIN.finditer(text):
        at = match.start()
        local = _LOCAL_TAIL.search(text[max(0, at - 64) : at])
        if local:
            yield at - len(local[0]), match.end(), "EMAIL"


def _private_keys(text: str) -> Iterator[Found]:
    # One pass: the search for an end goes on behind the last one, and a key without an end reaches to the end.
    begin = _PEM_BEGIN.search(text)
    while begin:
        end = _PEM_END.search(text, begin.end())
        yield begin.start(), end.end() if end else len(text), "SECRET"
        begin = _PEM_BEGIN.search(text, end.end()) if end else None


def _secrets(text: str) -> Iterator[Found]:
    if "-----BEGIN" in text:
        yield from _private_keys(text)
    if "eyJ" in text:
        for match in _JWT.finditer(text):
            head = text.find("eyJ", match.start(), match.end())
            if head >= 0 and head < text.index(".", match.start()):
                yield head, match.end(), "SECRET"
    for match in _SCHEME.finditer(text):
        # "Basic authentication" is prose.
        if len(match[1]) >= 16 or re.search(r"[0-9=]", match[1]):
            yield match.start(1), match.end(1), "SECRET"
    for match in _PROVIDER.finditer(text):
        yield match.start(), match.end(), "SECRET"
    for match in _URL_PASSWORD.finditer(text):
        if "\0" not in match[1]:
            yield match.start(1), match.end(1), "SECRET"


def _named(text: str) -> Iterator[Found]:
    for match in _NAMED.finditer(text):
        name, sign, _ = match.groups()
        # "Unexpected token: x" is a parser speaking.
        entity = None if sign == ":" and name.lower() == "token" else is_sensitive_name(name)
        if entity:
            yield match.start(3), match.end(3), entity


def entities(text: str) -> list[Found]:
    """All values in a folded text, in any order, possibly overlapping."""
    text = blanked(text)
    found = [*_secrets(text), *_named(text)]
    if "@" in text:
        found += _emails(text)
    found += _cards(text)
    found += ((match.start(), match.end(), "SSN") for match in _SSN.finditer(text))
    return found
