"""Network files as they are sent: plain, gzip (``.gz``) or zip. What is packed is unpacked within bounds.

Sizes that an archive states are not believed: each entry is read in pieces and counted, and an entry that is an archive
itself is refused.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Protocol

from evflex.engine.validation import InvalidProblemError, Violation

MAX_UNPACKED_BYTES = 256 * 2**20
MAX_ENTRIES = 1000
_PIECE_BYTES = 2**20
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# empty and split archives, and packers that no network file needs
_REFUSED_STARTS = (_GZIP, _ZIP, b"PK\x05\x06", b"PK\x07\x08", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"Rar!")


def unpack_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Unpack what is packed: every file by its name, those of a zip archive by their name within it.

    Folders in names are kept, with ``/`` between them; ``.gz`` is cut off.

    Raises:
        InvalidProblemError: When an archive is damaged, nested, or larger than the bounds, or two files share a name.
    """
    unpacked: dict[str, bytes] = {}
    room = _Room(MAX_UNPACKED_BYTES)
    for name, content in files.items():
        if content.startswith(_ZIP):
            for entry, data in _unzip(name, content, room):
                _put(unpacked, entry, data, name)
        elif content.startswith(_GZIP):
            data = room.read(_GzipReader(content, name), name)
            _refuse_nested(data, name)
            _put(unpacked, name.removesuffix(".gz"), data, name)
        elif content.startswith(_REFUSED_STARTS):
            raise _fault(name, "must be plain, gzip or a zip archive with entries")
        else:
            room.take(len(content), name)
            _put(unpacked, name, content, name)
    if not unpacked:
        raise _fault("files", "must hold at least one file")
    return unpacked


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Room:
    """Bytes that may still be unpacked, of all files together."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int, name: str) -> None:
        self._left -= size
        if self._left < 0:
            raise _fault(name, f"must not unpack to more than {MAX_UNPACKED_BYTES >> 20} MiB with the files before it")

    def read(self, stream: _Readable | IO[bytes], name: str) -> bytes:
        pieces = []
        while piece := stream.read(_PIECE_BYTES):
            self.take(len(piece), name)
            pieces.append(piece)
        return b"".join(pieces)


class _GzipReader:
    """Members of a gzip file one after the other, never more than asked for at once."""

    def __init__(self, content: bytes, name: str) -> None:
        self._packed, self._name = content, name
        self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    def read(self, size: int, /) -> bytes:
        while True:
            try:
                piece = self._member.decompress(self._packed, size)
            except zlib.error as error:
                raise _fault(self._name, f"must be sound gzip: {error}") from None
            self._packed = self._member.unconsumed_tail
            if self._member.eof:
                # padding with zeros after the last member is allowed
                self._packed = self._member.unused_data.lstrip(b"\x00")
                if self._packed:
                    self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            elif not piece and not self._packed:
                raise _fault(self._name, "must be sound gzip: it ends early")
            if piece or (self._member.eof and not self._packed):
                return piece


def _unzip(name: str, content: bytes, room: _Room) -> list[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_ENTRIES:
                raise _fault(name, f"must hold at most {MAX_ENTRIES} files, holds {len(entries)}")
            out = []
            for entry in entries:
                path = f"{name}/{entry.filename}"
                with archive.open(entry) as stream:
                    data = room.read(stream, path)
                _refuse_nested(data, path)
                out.append((entry.filename.replace("\\", "/"), data))
            return out
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, InvalidProblemError):
            raise
        raise _fault(name, f"must be a sound zip archive without password: {error}") from None


def _refuse_nested(data: bytes, name: str) -> None:
    if data.startswith(_REFUSED_STARTS):
        raise _fault(name, "must not be an archive within an archive")


def _put(unpacked: dict[str, bytes], name: str, data: bytes, path: str) -> None:
    if name in unpacked:
        raise _fault(path, f"must not bring a second file named {name!r}")
    unpacked[name] = data


def _fault(field: str, description: str) -> InvalidProblemError:
    return InvalidProblemError([Violation(field, description)])
