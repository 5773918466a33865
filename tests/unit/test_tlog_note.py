"""Signed notes and verifier keys: the specification's example, golden bytes, and every bad input by name."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.tlog import (
    NoteError,
    SignatureError,
    Signer,
    make_vkey,
    open_note,
    parse_vkey,
    sign_note,
    split_note,
    verify_note,
)
from schemaseal.tlog.strict import WHITE_SPACE, decode_base64, encode_base64, parse_decimal, printable

# The example of the signed-note specification.
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

ALICE = Signer.from_seed("log.example/a", bytes(range(32)))
BOB = Signer.from_seed("witness.example/b", bytes(range(1, 33)))
TEXT = "one\n\ntwo\n"
NOTE = sign_note(TEXT, [ALICE])
LINE = NOTE.decode()[len(TEXT) + 1 :]
PAYLOAD = LINE.split(" ")[2][:-1]


def test_the_example_of_the_specification() -> None:
    assert verify_note(SPEC_NOTE, [SPEC_KEY]) == "This is an example message.\n"


def test_golden_note_and_key() -> None:
    assert ALICE.vkey == "log.example/a+d870bab6+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    assert NOTE == (
        b"one\n\ntwo\n\n\xe2\x80\x94 log.example/a "
        b"2HC6ttL2OOOk1/kp1hbQ8Du6VaBblB7uQ5AKJDhl349oBd5ULO/6tbRBceRxJzDkaJobqq8YGbbnXcmhPhWndCyCxgI=\n"
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[chr(c) for c in range(32)])),
    st.lists(st.sampled_from([ALICE, BOB]), min_size=1, max_size=3),
)
def test_round_trip(text: str, signers: list[Signer]) -> None:
    note = sign_note(text + "\n", signers)
    opened = open_note(note, [ALICE.vkey]) if ALICE in signers else open_note(note, [BOB.key])
    assert opened.text == text + "\n"
    assert split_note(note)[0] == text + "\n"
    assert len(opened.signed_by) == 1
    assert len(opened.unknown) == sum(s.key not in opened.signed_by for s in signers)


@given(st.integers(0, len(NOTE) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(position: int, flip: int) -> None:
    changed = bytearray(NOTE)
    changed[position] ^= flip
    with pytest.raises(NoteError):
        verify_note(bytes(changed), [ALICE.vkey])


def test_unknown_signatures_are_ignored_and_reported() -> None:
    opened = open_note(sign_note(TEXT, [BOB, ALICE]), [ALICE.key])
    assert opened.text == TEXT
    assert [key.name for key in opened.signed_by] == ["log.example/a"]
    assert [line.name for line in opened.unknown] == ["witness.example/b"]


def test_same_name_or_same_id_alone_is_unknown() -> None:
    same_name = Signer.from_seed(ALICE.name, b"z" * 32)
    with pytest.raises(SignatureError, match="no known key"):
        verify_note(sign_note(TEXT, [same_name]), [ALICE.vkey])
    renamed = NOTE.replace(b"log.example/a", b"log.example/z")
    with pytest.raises(SignatureError, match="no known key"):
        verify_note(renamed, [ALICE.vkey])


def test_a_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    bad = encode_base64(ALICE.key.key_id + b"\0" * 64)
    forged = sign_note(TEXT, [BOB]) + f"— log.example/a {bad}\n".encode()
    assert verify_note(forged, [BOB.vkey]) == TEXT
    with pytest.raises(SignatureError, match="wrong signature"):
        verify_note(forged, [BOB.vkey, ALICE.vkey])
    with pytest.raises(SignatureError, match="wrong signature"):  # beside a right one of the same key
        verify_note(NOTE + f"— log.example/a {bad}\n".encode(), [ALICE.vkey])


def test_no_keys_known() -> None:
    with pytest.raises(SignatureError):
        verify_note(NOTE, [])


def test_two_known_keys_of_one_name_and_id() -> None:
    other = BOB.key
    clash = type(other)(ALICE.name, ALICE.key.key_id, 1, other.public_key)
    with pytest.raises(NoteError, match="two known keys"):
        verify_note(NOTE, [ALICE.key, clash])
    assert verify_note(NOTE, [ALICE.key, ALICE.vkey]) == TEXT


NON_CANONICAL = PAYLOAD[:-2] + chr(ord(PAYLOAD[-2]) + 1) + "="


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("empty", ""),
        ("text only", TEXT),
        ("no signature", TEXT + "\n"),
        ("no empty line", "one\n" + LINE),
        ("text without newline", "one" + LINE),
        ("empty text", "\n" + LINE),
        ("no final newline", TEXT + "\n" + LINE[:-1]),
        ("empty line after", TEXT + "\n" + LINE + "\n"),
        ("text after", TEXT + "\n" + LINE + "more\n"),
        ("hyphen for em dash", TEXT + "\n" + LINE.replace("—", "-")),
        ("en dash for em dash", TEXT + "\n" + LINE.replace("—", "\u2013")),
        ("no-break space after the dash", TEXT + "\n" + LINE.replace("— ", "—\xa0")),
        ("two spaces after the dash", TEXT + "\n" + LINE.replace("— ", "—  ")),
        ("space before the dash", TEXT + "\n " + LINE),
        ("empty name", TEXT + "\n" + LINE.replace("log.example/a", "")),
        ("plus in name", TEXT + "\n" + LINE.replace("log.example/a", "log+a")),
        ("space in name", TEXT + "\n" + LINE.replace("log.example/a", "log a")),
        ("ideographic space in name", TEXT + "\n" + LINE.replace("log.example/a", "log\u3000a")),
        ("next line character in name", TEXT + "\n" + LINE.replace("log.example/a", "log\x85a")),
        ("no signature after the name", TEXT + "\n— log.example/a\n"),
        ("empty signature", TEXT + "\n— log.example/a \n"),
        ("key id only", TEXT + "\n— log.example/a " + encode_base64(ALICE.key.key_id) + "\n"),
        ("unpadded base64", TEXT + "\n" + LINE.replace("=", "")),
        ("padding twice", TEXT + "\n" + LINE.replace("=", "==")),
        ("padding bits set", TEXT + "\n" + LINE.replace(PAYLOAD, NON_CANONICAL)),
        (
            "URL alphabet",
            TEXT + "\n" + "— log.example/a " + base64.urlsafe_b64encode(b"\xff" * 68).decode() + "\n",
        ),
        ("junk in base64", TEXT + "\n" + LINE.replace("=", "*=")),
        ("space after base64", TEXT + "\n" + LINE[:-1] + " \n"),
        ("carriage return", TEXT + "\n" + LINE[:-1] + "\r\n"),
        ("tab in text", "a\tb\n\n" + LINE),
        ("nul in text", "a\0b\n\n" + LINE),
        ("escape in text", "a\x1bb\n\n" + LINE),
        ("101 signatures", TEXT + "\n" + LINE * 101),
        ("over a million bytes", "x" * 1_000_000 + "\n\n" + LINE),
    ],
)
def test_outside_the_grammar(name: str, note: str) -> None:
    with pytest.raises(NoteError):
        split_note(note.encode())
    with pytest.raises(NoteError):
        verify_note(note.encode(), [ALICE.vkey])


@pytest.mark.parametrize("data", [b"\xff\n\n", b"\xed\xa0\x80\n\n", b"\xc0\xaf\n\n", b"\xe2\x80\n\n"])
def test_text_that_is_not_utf8(data: bytes) -> None:
    with pytest.raises(NoteError, match="UTF-8"):
        split_note(data + LINE.encode())


def test_sixteen_large_signatures_are_accepted() -> None:
    large = "— pq.example " + encode_base64(b"abcd" + bytes(5000)) + "\n"
    assert verify_note(NOTE + large.encode() * 16, [ALICE.vkey]) == TEXT
    assert verify_note(NOTE + LINE.encode() * 99, [ALICE.vkey]) == TEXT


@pytest.mark.parametrize("text", ["", "no newline", "carriage\r\n", "bell\a\n", "lone \ud800\n"])
def test_text_that_cannot_be_signed(text: str) -> None:
    with pytest.raises(NoteError):
        sign_note(text, [ALICE])


def test_a_note_without_signers() -> None:
    with pytest.raises(NoteError):
        sign_note(TEXT, [])


KEY_NAME, KEY_ID, KEY_MATERIAL = ALICE.vkey.split("+", 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty", ""),
        ("two parts", f"{KEY_NAME}+{KEY_ID}"),
        ("empty name", f"+{KEY_ID}+{KEY_MATERIAL}"),
        ("other name", f"log.example/b+{KEY_ID}+{KEY_MATERIAL}"),
        ("space in name", f"log example+{KEY_ID}+{KEY_MATERIAL}"),
        ("newline in name", f"log\nexample+{KEY_ID}+{KEY_MATERIAL}"),
        ("lone surrogate in name", f"log\ud800+{KEY_ID}+{KEY_MATERIAL}"),
        ("long name", f"{'x' * 1001}+{KEY_ID}+{KEY_MATERIAL}"),
        ("id of another key", f"{KEY_NAME}+00000000+{KEY_MATERIAL}"),
        ("upper-case id", f"{KEY_NAME}+{KEY_ID.upper()}+{KEY_MATERIAL}"),
        ("short id", f"{KEY_NAME}+{KEY_ID[1:]}+{KEY_MATERIAL}"),
        ("prefixed id", f"{KEY_NAME}+0x{KEY_ID[2:]}+{KEY_MATERIAL}"),
        ("fullwidth digit in id", f"{KEY_NAME}+{KEY_ID[:-1]}\uff10+{KEY_MATERIAL}"),
        ("trailing newline", ALICE.vkey + "\n"),
        ("leading space", " " + ALICE.vkey),
        ("fourth part", ALICE.vkey + "+AAAA"),
        ("no material", f"{KEY_NAME}+{KEY_ID}+"),
        ("short material", f"{KEY_NAME}+{KEY_ID}+{KEY_MATERIAL[:-4]}"),
        ("unknown type", f"{KEY_NAME}+{KEY_ID}+A{chr(ord(KEY_MATERIAL[1]) + 2)}{KEY_MATERIAL[2:]}"),
        ("not base64", f"{KEY_NAME}+{KEY_ID}+{KEY_MATERIAL[:-1]}*"),
    ],
)
def test_text_that_is_no_verifier_key(name: str, text: str) -> None:
    with pytest.raises(NoteError):
        parse_vkey(text)


def test_verifier_key_round_trip() -> None:
    key = parse_vkey(ALICE.vkey)
    assert key == ALICE.key
    assert str(key) == ALICE.vkey == make_vkey(ALICE.name, key.public_key)
    with pytest.raises(NoteError):
        make_vkey(ALICE.name, key.public_key[:31])
    with pytest.raises(NoteError):
        make_vkey("with space", key.public_key)


def test_a_signer_does_not_show_its_key() -> None:
    assert "private" not in repr(ALICE).lower()
    with pytest.raises(NoteError):
        Signer.generate("a+b")


@given(st.binary(max_size=80))
def test_base64_has_one_spelling(data: bytes) -> None:
    text = encode_base64(data)
    assert decode_base64(text) == data
    for other in (text + "\n", " " + text, text + "=", text[:-1] if text else "="):
        with pytest.raises(ValueError, match="base64"):
            decode_base64(other)


@pytest.mark.parametrize("text", ["AB==", "AAB=", "AAAA====", "é", "\ud800", "AA=A", "-_-_"])
def test_base64_named_bad_inputs(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+1",
        "-1",
        "01",
        "00",
        " 1",
        "1 ",
        "1_0",
        "1.0",
        "1e3",
        "0x1",
        "\u0661",
        "\xb2",
        "18446744073709551616",
        "9" * 5000,
    ],
)
def test_decimal_named_bad_inputs(text: str) -> None:
    with pytest.raises(ValueError, match=r"decimal|zero|bits"):
        parse_decimal(text)


@given(st.integers(0, 2**64 - 1))
def test_decimal_round_trip(value: int) -> None:
    assert parse_decimal(str(value)) == value


def test_white_space_is_the_unicode_property() -> None:
    python_extra = {chr(code) for code in range(0x1C, 0x20)}  # `str.isspace` counts the four separators too
    assert {chr(c) for c in range(0x110000) if chr(c).isspace()} - python_extra == WHITE_SPACE


def test_printable_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31m\n\u202eé") == r"'a\x1b[31m\n\u202e\xe9'"
    assert printable("\ud800") == r"'\ud800'"
    assert printable("x" * 100, 3) == "'xxx'…"
