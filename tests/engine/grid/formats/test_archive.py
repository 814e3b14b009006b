"""Packed network files: unpacked within bounds, whatever their headers say."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest

from evflex.engine.grid.formats import archive
from evflex.engine.grid.formats.archive import unpack_files
from evflex.engine.validation import InvalidProblemError


def zipped(entries: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in entries.items():
            out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def told(files: dict[str, bytes]) -> str:
    with pytest.raises(InvalidProblemError) as error:
        unpack_files(files)
    return str(error.value)


def test_plain_gzip_and_zip_files_come_out_side_by_side() -> None:
    two_members = gzip.compress(b"one ") + gzip.compress(b"two")
    files = {"a.json": b"plain", "b.json.gz": two_members, "c.zip": zipped({"f/x.csv": b"x", "f/y.csv": b""})}
    assert unpack_files(files) == {"a.json": b"plain", "b.json": b"one two", "f/x.csv": b"x", "f/y.csv": b""}


def test_a_bomb_is_stopped_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 3 * 2**20)
    zeros = bytes(4 * 2**20)
    assert "must not unpack to more than 3 MiB" in told({"a.gz": gzip.compress(zeros)})
    assert "must not unpack to more than 3 MiB" in told({"a.zip": zipped({"x": zeros})})
    half = bytes(2 * 2**20)
    assert "must not unpack to more than 3 MiB" in told({"a.zip": zipped({"x": half, "y": half})})
    assert "must not unpack to more than 3 MiB" in told({"a": zeros})


def test_sizes_in_headers_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 2**20)
    content = bytearray(zipped({"x": bytes(4 * 2**20)}))
    size = (4 * 2**20).to_bytes(4, "little")
    assert content.count(size) == 2
    lying = bytes(content).replace(size, (100).to_bytes(4, "little"))
    with pytest.raises(InvalidProblemError):
        unpack_files({"a.zip": lying})


# the same at every time of the day, as tests are named and fail alike in every process
GZIPPED = gzip.compress(b"x" * 1000, mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        GZIPPED[:-20],
        GZIPPED[:5],
        GZIPPED.replace(b"\x00", b"\x01"),
        zipped({"x": b"y" * 1000})[:-30],
        b"PK\x03\x04",
        zipped({"x": b"y" * 1000})[:40] + b"\x00" * 20 + zipped({"x": b"y" * 1000})[60:],
    ],
    ids=["gzip-cut", "gzip-begun", "gzip-changed", "zip-cut", "zip-begun", "zip-changed"],
)
def test_damaged_archives_are_refused(content: bytes) -> None:
    assert "must be" in told({"a": content})


def test_archives_within_archives_and_double_names_and_crowds_are_refused() -> None:
    assert "within an archive" in told({"a.zip": zipped({"b.zip": zipped({"x": b""})})})
    assert "within an archive" in told({"a.gz": gzip.compress(gzip.compress(b"x"))})
    assert "second file" in told({"x": b"1", "a.zip": zipped({"x": b"2"})})
    assert "at most 1000 files" in told({"a.zip": zipped({str(i): b"" for i in range(1001)})})
    assert "plain, gzip or a zip" in told({"a.7z": b"7z\xbc\xaf\x27\x1cxxxx"})
    assert "at least one file" in told({})


def test_encrypted_archives_are_refused() -> None:
    content = bytearray(zipped({"x": b"secret"}))
    # the flag of encryption, in the entry and in the directory
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert "without password" in told({"a.zip": bytes(content)})
