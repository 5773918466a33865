"""Checkpoints: golden text, round trip, and every bad input by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.tlog import Checkpoint, CheckpointError, format_checkpoint, parse_checkpoint

ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
GOLDEN = f"example.com/behind-the-sofa\n20852163\n{ROOT}\n"

lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[chr(c) for c in range(32)]), min_size=1)


def test_the_example_of_the_specification() -> None:
    checkpoint = parse_checkpoint(GOLDEN)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert checkpoint.extensions == ()
    assert format_checkpoint(checkpoint) == GOLDEN


@given(
    lines,
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)
def test_round_trip(origin: str, size: int, root: bytes, extensions: tuple[str, ...]) -> None:
    checkpoint = Checkpoint(origin, size, root, extensions)
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


@given(st.text(st.sampled_from("ab01\n=+/ \r") | st.characters(), max_size=60))
def test_what_is_accepted_is_the_only_spelling(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(f"o\n1\n{ROOT}\n{text}")
    except CheckpointError:
        return
    assert format_checkpoint(checkpoint) == f"o\n1\n{ROOT}\n{text}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty", ""),
        ("newline only", "\n"),
        ("two lines", "o\n1\n"),
        ("no final newline", GOLDEN[:-1]),
        ("empty origin", f"\n1\n{ROOT}\n"),
        ("empty size", f"o\n\n{ROOT}\n"),
        ("empty extension", GOLDEN + "\n"),
        ("empty line between extensions", GOLDEN + "a\n\nb\n"),
        ("leading zero", f"o\n01\n{ROOT}\n"),
        ("double zero", f"o\n00\n{ROOT}\n"),
        ("plus sign", f"o\n+1\n{ROOT}\n"),
        ("minus sign", f"o\n-1\n{ROOT}\n"),
        ("underscore", f"o\n1_0\n{ROOT}\n"),
        ("space before size", f"o\n 1\n{ROOT}\n"),
        ("space after size", f"o\n1 \n{ROOT}\n"),
        ("hexadecimal", f"o\n0x1\n{ROOT}\n"),
        ("arabic digit", f"o\n\u0661\n{ROOT}\n"),
        ("size of 65 bits", f"o\n18446744073709551616\n{ROOT}\n"),
        ("short root", "o\n1\nAAAA\n"),
        ("root of 33 bytes", "o\n1\n" + "A" * 44 + "\n"),
        ("unpadded root", f"o\n1\n{ROOT[:-1]}\n"),
        ("padding bits set", f"o\n1\n{ROOT[:-2]}J=\n"),
        ("URL alphabet", f"o\n1\n{ROOT.replace('/', '_')}\n"),
        ("junk in root", f"o\n1\n{ROOT[:-1]}*=\n"),
        ("space after root", f"o\n1\n{ROOT} \n"),
        ("carriage return", f"o\r\n1\r\n{ROOT}\r\n"),
        ("tab in origin", f"o\tp\n1\n{ROOT}\n"),
        ("control character in extension", GOLDEN + "a\x1bb\n"),
    ],
)
def test_text_that_is_no_checkpoint(name: str, text: str) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(text)


def test_a_line_separator_of_unicode_is_part_of_the_line() -> None:
    assert parse_checkpoint(f"o\u2028p\n1\n{ROOT}\n").origin == "o\u2028p"


@pytest.mark.parametrize(
    "arguments",
    [
        ("", 1, b"x" * 32),
        ("o", -1, b"x" * 32),
        ("o", 2**64, b"x" * 32),
        ("o", 1, b"x" * 31),
        ("o\n", 1, b"x" * 32),
    ],
)
def test_values_that_cannot_be_written(arguments: tuple[str, int, bytes]) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint(*arguments)
