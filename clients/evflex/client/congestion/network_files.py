"""Networks in files, on their way to the server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evflex.client.congestion.enums import NetworkFormat, format_name
from evflex.client.errors import InvalidRequestError, Violation
from evflex.congestion.v1 import congestion_service_pb2 as pb

# Well below the server's limit of 16 MiB for a message.
PART_BYTES = 1 << 20

NetworkSource = str | Path | Sequence[str | Path] | Mapping[str, bytes]
"""A file, an archive (``.zip``, ``.gz``), a folder of files, several of these, or contents by file name."""


def network_files(source: NetworkSource) -> dict[str, bytes]:
    """Contents of files by their name; archives are sent as they are.

    Args:
        source: Where the files are. Of a folder all files are taken, but not those of folders in it, nor hidden ones.

    Raises:
        OSError: A file cannot be read.
        ValueError: Two files share a name, or there are none.
    """
    if isinstance(source, Mapping):
        return dict(source)
    given = [source] if isinstance(source, str | Path) else list(source)
    files: dict[str, bytes] = {}
    for path in (file for name in given for file in _files_of(Path(name))):
        if path.name in files:
            raise ValueError(f"there are two files named {path.name}")
        files[path.name] = path.read_bytes()
    if not files:
        raise ValueError(f"there are no files in {', '.join(map(str, given)) or 'an empty list'}")
    return files


@dataclass(frozen=True, slots=True)
class NetworkImport:
    """A network on its way to the server.

    Attributes:
        header: First message.
        files: Contents by file name.
    """

    header: pb.ImportNetworkHeader
    files: Mapping[str, bytes]

    @classmethod
    def of(
        cls,
        source: NetworkSource,
        network_format: NetworkFormat | str,
        *,
        network_id: str,
        display_name: str,
        area_id: str,
        three_phase: bool | None,
        allow_refusals: bool,
        validate_only: bool,
        request_id: str,
    ) -> NetworkImport:
        """Read the files; parameters as in ``EvflexClient.import_network``.

        Raises:
            InvalidRequestError: The format is unknown, or there are no files to send.
            OSError: A file cannot be read.
        """
        try:
            name = format_name(network_format)
        except ValueError as error:
            raise InvalidRequestError.before_sending([Violation("network_format", str(error))]) from None
        try:
            files = network_files(source)
        except ValueError as error:
            raise InvalidRequestError.before_sending([Violation("source", str(error))]) from None
        header = pb.ImportNetworkHeader(
            request_id=request_id or str(uuid.uuid4()),
            format=name,
            network_id=network_id,
            display_name=display_name,
            area_id=area_id,
            three_phase=three_phase,
            allow_refusals=allow_refusals,
            validate_only=validate_only,
        )
        return cls(header, files)

    def messages(self) -> Iterator[pb.ImportNetworkRequest]:
        """Header, parts of files and commit; each call begins anew."""
        yield pb.ImportNetworkRequest(header=self.header)
        for name, content in self.files.items():
            # an empty file has one part as well
            for first in range(0, max(len(content), 1), PART_BYTES):
                part = pb.ImportNetworkChunk(file_name=name, content=content[first : first + PART_BYTES])
                yield pb.ImportNetworkRequest(chunk=part)
        yield pb.ImportNetworkRequest(commit=pb.ImportNetworkCommit())


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
