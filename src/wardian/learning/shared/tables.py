"""A sealed table, opened in memory: the one file that its owner pinned, under the key it gave.

What is wrong with a table is said with the name of its owner, so that nobody looks for it at
another's; no message has a value of it.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from wardian._internal.files import open_regular
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, SealedReader, read_header
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, CryptoError, FormatError
from wardian.learning.shared import csv_table, parquet_table
from wardian.learning.shared.columns import Columns, Kind, joined_batches
from wardian.learning.shared.extra import extra
from wardian.learning.shared.fixed import Content, FixedFile, RawReader

MEDIA_TYPES = (csv_table.MEDIA_TYPE, parquet_table.MEDIA_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedTable:
    """One input of a job.

    Attributes:
        owner: what the plan calls whose it is.
        name: of the table; it has to be sealed under it.
        path: where the sealed file lies, untrusted.
        pin: that its owner signed.
        key: a broker key, 32 bytes.
        content: that the file has to have; None: any that its owner sealed under the pin.
    """

    owner: str
    name: str
    path: Path
    pin: Pin
    key: Secret
    content: Content | None = None

    def read(self, kinds: Mapping[str, Kind]) -> dict[str, NDArray[Any]]:
        """Return the columns `kinds`, and nothing else, of all rows.

        Raises:
            ConfigError, FormatError, AuthenticationFailed, WrongRecipient, UnsupportedAlgorithm: as
                `batches`; or there is no row.
        """
        with self._named():
            return joined_batches(self._batches(kinds), kinds)

    def batches(self, kinds: Mapping[str, Kind]) -> Iterator[Columns]:
        """Yield the columns `kinds` of up to 65536 rows at a time, in the order of the file.

        Every piece was found authentic before it is parsed. The end of the file is compared with
        the pin first, the rest as it is read.

        Raises:
            ConfigError: the file cannot be read, or pyarrow is not installed.
            FormatError: no table, or not with these columns.
            AuthenticationFailed: not the file that is pinned, of another name, or changed.
            WrongRecipient: the key is another's.
            UnsupportedAlgorithm: of a later format.
        """
        with self._named():
            yield from self._batches(kinds)

    def _batches(self, kinds: Mapping[str, Kind]) -> Iterator[Columns]:
        with self._opened() as file:
            header = read_header(file)  # believed once its digest met the pin, below
            if header.media_type not in MEDIA_TYPES:
                raise FormatError(
                    f"sealed as {header.media_type}, not as {' or '.join(MEDIA_TYPES)}"
                )
            reader = SealedReader(
                file,
                identities=[BrokerKey(self.key)],
                pin=self.pin,
                media_type=header.media_type,
                name=self.name,
                version=header.version,
            )
            clear = OpenedTable(reader)
            if header.media_type == csv_table.MEDIA_TYPE:
                buffered = io.BufferedReader(clear, header.chunk_bytes)
                yield from csv_table.csv_batches(cast("BinaryIO", buffered), kinds)
            else:
                yield from parquet_table.parquet_batches(
                    cast("BinaryIO", clear), kinds, key=self.key, table=self.name
                )

    def _opened(self) -> BinaryIO:
        file = open_regular(self.path, buffering=0)
        if self.content is None:
            return file
        return cast("BinaryIO", FixedFile(file, self.content))

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Let what is raised within say whose table it is about."""
        where = f"{self.owner}, table {self.name}"
        try:
            yield
        except (FormatError, CryptoError, ConfigError) as err:
            raise type(err)(f"{where}: {err}") from err
        except OSError as err:
            raise ConfigError(f"{where}: cannot be read: {err.strerror}") from err


class OpenedTable(RawReader):
    """The content of a sealed file as a file."""

    def __init__(self, reader: SealedReader) -> None:
        super().__init__(reader.header.total_bytes)
        self._reader = reader

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        found = self._reader.read_into(self._at, memoryview(buffer).cast("B"))
        self._at += found
        return found

    @override
    def read(self, size: int = -1, /) -> Any:
        """Return the next `size` bytes, or as many as there are, in memory that nobody cleared."""
        left = max(0, self._size - self._at)
        found = np.empty(left if size < 0 else min(size, left), np.uint8)
        self.readinto(found.data)
        return found.data

    def read_buffer(self, length: int) -> Any:
        """Return the next `length` bytes, or as many as there are, as Arrow keeps them."""
        return extra("pyarrow").py_buffer(self.read(length))
