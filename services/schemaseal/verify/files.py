"""Reading the files of an export: line by line, block by block, bounded, with progress."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

from schemaseal.tlog import HASH_SIZE
from schemaseal.verify.export_format import ExportFormatError

Progress = Callable[[str, int, int], None]
"""`progress(step, done, total)` in bytes of the file read; called every few thousand lines."""

SMALL_FILE_LIMIT = 16 * 1024 * 1024
_LINES_PER_CALL = 4096
_HASHES_PER_BLOCK = 32_768


def silent(step: str, done: int, total: int) -> None:
    """Progress for nobody."""


def read_small(path: Path) -> bytes:
    """A whole small file; raises `ExportFormatError` if it is absent, no regular file, or too large."""
    _require(path)
    if path.stat().st_size > SMALL_FILE_LIMIT:
        raise ExportFormatError(f"{path.name} is over {SMALL_FILE_LIMIT} bytes")
    return path.read_bytes()


def read_lines(path: Path, limit: int, step: str, progress: Progress) -> Iterator[bytes]:
    """Lines with their newline. A line over `limit` bytes comes in pieces, none of which will parse."""
    _require(path)
    total = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(limit), b""), 1):
            done += len(line)
            yield line
            if number % _LINES_PER_CALL == 0:
                progress(step, done, total)
    progress(step, done, total)


class HashFile:
    """`leaf-hashes.bin` mapped into memory: hash of leaf i at 32·i."""

    def __init__(self, path: Path) -> None:
        _require(path)
        length = path.stat().st_size
        if length % HASH_SIZE:
            raise ExportFormatError(f"{path.name} is not a whole number of hashes")
        self.size = length // HASH_SIZE
        self._data: mmap.mmap | bytes = b""
        if length:  # an empty file cannot be mapped
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._data[index * HASH_SIZE : (index + 1) * HASH_SIZE])

    def blocks(self, step: str, progress: Progress) -> Iterator[list[bytes]]:
        for start in range(0, self.size, _HASHES_PER_BLOCK):
            stop = min(start + _HASHES_PER_BLOCK, self.size)
            data = self._data[start * HASH_SIZE : stop * HASH_SIZE]
            yield [bytes(data[at : at + HASH_SIZE]) for at in range(0, len(data), HASH_SIZE)]
            progress(step, stop * HASH_SIZE, self.size * HASH_SIZE)

    def close(self) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()
            self._data = b""


def _require(path: Path) -> None:
    if not path.is_file():  # a pipe or device would block or never end
        raise ExportFormatError(f"{path.name} is not in the export")
