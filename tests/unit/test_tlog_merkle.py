"""The Merkle tree against the recursive definitions of RFC 6962 and the roots of its reference log."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.tlog import (
    EMPTY_ROOT,
    CompactRange,
    ProofError,
    TlogError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves of the RFC 6962 reference implementation and the root at each size.
REFERENCE_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
REFERENCE_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(b"leaf %d" % index) for index in range(count)]


# The definitions of RFC 6962, 2.1 to 2.1.2, word for word and as slow as they are.
def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if complete else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], complete=complete), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], complete=False), mth(leaves[:k])]


def test_named_hashes() -> None:
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    assert EMPTY_ROOT.hex() == REFERENCE_ROOTS[0]


@pytest.mark.parametrize("size", range(9))
def test_root_of_the_reference_log(size: int) -> None:
    assert root_hash(map(leaf_hash, REFERENCE_LEAVES[:size])).hex() == REFERENCE_ROOTS[size]


def test_a_node_does_not_pass_for_a_leaf() -> None:
    left, right = hashes(2)
    assert leaf_hash(left + right) != node_hash(left, right) != node_hash(right, left)


def test_every_proof_of_small_trees_is_the_recursive_one_and_verifies() -> None:
    everything = hashes(33)
    for size in range(1, 34):
        leaves = everything[:size]
        root = mth(leaves)
        assert root_hash(leaves) == root
        for index in range(size):
            proof = inclusion_proof(everything, index, size)
            assert proof == path(index, leaves)
            verify_inclusion(index, size, leaves[index], proof, root)
        for old in range(1, size + 1):
            proof = consistency_proof(everything, old, size)
            assert proof == subproof(old, leaves, complete=True)
            verify_consistency(old, size, proof, mth(leaves[:old]), root)


@given(st.integers(1, 200), st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    leaves = hashes(size)
    root = root_hash(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(leaves, index)
    verify_inclusion(index, size, leaves[index], proof, root)
    wrong: list[tuple[int, int, bytes, list[bytes], bytes]] = [
        (index, size, leaf_hash(b"other"), proof, root),
        (index, size, leaves[index], [*proof, root], root),
        (index, size, leaves[index], [root, *proof], root),
        (index, size, leaves[index], proof, EMPTY_ROOT),
        (size, size, leaves[index], proof, root),
        (-1, size, leaves[index], proof, root),
        (index, 0, leaves[index], proof, root),
        (index, size, leaves[index][:31], proof, root),
    ]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        wrong.append((index, size, leaves[index], [*proof[:at], flipped, *proof[at + 1 :]], root))
        wrong.append((index, size, leaves[index], proof[:-1], root))
        wrong.append((index, size, leaves[index], proof[1:], root))
        wrong.append((index, size, leaves[index], [*proof[:at], proof[at] + b"\0", *proof[at + 1 :]], root))
        wrong.append((index ^ 1, size, leaves[index], proof, root))
    for case in wrong:
        with pytest.raises(ProofError):
            verify_inclusion(*case)


@given(st.integers(1, 120), st.data())
def test_a_changed_consistency_proof_is_refused(size2: int, data: st.DataObject) -> None:
    leaves = hashes(size2)
    size1 = data.draw(st.integers(1, size2))
    root1, root2 = root_hash(leaves[:size1]), root_hash(leaves)
    proof = consistency_proof(leaves, size1)
    verify_consistency(size1, size2, proof, root1, root2)
    fork = root_hash([*leaves[: size1 - 1], leaf_hash(b"fork")])
    wrong: list[tuple[int, int, list[bytes], bytes, bytes]] = [
        (0, size2, proof, EMPTY_ROOT, root2),
        (0, 0, [], EMPTY_ROOT, EMPTY_ROOT),
        (size2 + 1, size2, proof, root1, root2),
        (size1, size2, [*proof, root2], root1, root2),
        (size1, size2, [root1, *proof], root1, root2),
        (size1, size2, proof, fork, root2),
        (size1, size2, proof, root1, fork),
    ]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytes([proof[at][31] ^ 1]) + proof[at][1:]
        wrong.append((size1, size2, [*proof[:at], flipped, *proof[at + 1 :]], root1, root2))
        wrong.append((size1, size2, proof[:-1], root1, root2))
        wrong.append((size1, size2, [], root1, root2))
    for case in wrong:
        with pytest.raises(ProofError):
            verify_consistency(*case)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, 4)])
def test_no_inclusion_proof_where_there_is_no_leaf(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        inclusion_proof(hashes(3), index, size)


@pytest.mark.parametrize(("size1", "size2"), [(0, 3), (4, 3), (-1, 3), (1, 4)])
def test_no_consistency_proof_from_nothing_or_backwards(size1: int, size2: int) -> None:
    with pytest.raises(ProofError):
        consistency_proof(hashes(3), size1, size2)


@given(st.lists(st.integers(0, 70), max_size=6))
def test_compact_range_is_the_same_however_it_is_fed(batches: list[int]) -> None:
    everything = hashes(sum(batches))
    grown = CompactRange.empty()
    start = 0
    for batch in batches:
        before = grown.to_bytes()
        longer = grown.extend(everything[start : start + batch])
        assert grown.to_bytes() == before  # immutable
        grown = longer
        start += batch
        assert grown.size == start
        assert grown.root() == mth(everything[:start])
        assert CompactRange.from_bytes(grown.to_bytes()) == grown
    one_by_one = CompactRange.empty()
    for item in everything:
        one_by_one = one_by_one.append(item)
    assert one_by_one == grown


def test_compact_range_golden_bytes() -> None:
    tree = CompactRange.empty().extend(map(leaf_hash, REFERENCE_LEAVES[:3]))
    assert tree.to_bytes().hex() == (
        "0000000000000003" + REFERENCE_ROOTS[2] + "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\0" * 9,
        b"\0" * 8 + b"x" * 32,  # a node for size 0
        b"\0" * 7 + b"\1",  # no node for size 1
        b"\0" * 7 + b"\1" + b"x" * 31,
        b"\0" * 7 + b"\2" + b"x" * 64,  # two nodes for size 2
    ],
)
def test_bytes_that_are_no_compact_range(data: bytes) -> None:
    with pytest.raises(TlogError):
        CompactRange.from_bytes(data)


def test_a_hash_of_another_length_is_not_appended() -> None:
    with pytest.raises(TlogError):
        CompactRange.empty().extend([b"x" * 31])
