"""An encrypted model of Analytics Zoo as one stream of bytes, which are in memory and nowhere else.

Nothing is guessed. Which form it is, the caller says: read as CBC, a file of 0.9 opens without an
error, short of its first 16 bytes. Which files lie in the clear, the caller says too: otherwise
whoever can write to the directory puts clear weights in the place of encrypted ones.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from typing_extensions import Buffer, override

from wardian.crypto.zoo_keys import ZooForm, ZooKeys
from wardian.crypto.zoo_stream import open_model_pieces
from wardian.errors import AuthenticationFailed, ConfigError, FormatError
from wardian.inference.ir_file import MAX_XML_BYTES, build_ir

_CLEAR_PIECE_BYTES = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How encrypted files are opened: `keys`, `form`, and `latin1` of `open_model_pieces`."""

    keys: ZooKeys
    form: ZooForm
    latin1: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file of a model, and whether it lies in the clear."""

    path: Path
    clear: bool = False


class Contents:
    """What one file, or a pair of OpenVINO as the one file that an enclave opens, decrypts to.

    Attributes:
        parts: the file; or the graph and the weights, in this order.
        sha256_hex: of each file as it lies there, by name, once `pieces` ended.
    """

    def __init__(self, parts: Sequence[Part], opening: Opening) -> None:
        """Open nothing yet."""
        self.parts = tuple(parts)
        self.sha256_hex: dict[str, str] = {}
        self._opening = opening

    def pieces(self, told: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """Yield the content, unverified until the end; may be called again.

        Args:
            told: how many bytes of the files were read since it was told last.

        Raises:
            FormatError: a file is not encrypted in this form; or the graph is none.
            AuthenticationFailed: another secret, salt or form, or altered.
            ConfigError: a file cannot be read, or changed since it was read before.
        """
        if len(self.parts) == 1:
            yield from self._opened(self.parts[0], told)
            return
        graph, weights = self.parts
        xml = _whole_graph(self._opened(graph, told), graph.path)  # verified: it ended
        yield build_ir(xml, b"")
        yield from self._opened(weights, told)

    def _opened(self, part: Part, told: Callable[[int], None] | None) -> Iterator[bytes]:
        digest, done = hashlib.sha256(), 0
        try:
            with part.path.open("rb") as file:
                for piece in self._decrypted(file, part, digest):
                    yield piece
                    if told is not None:
                        told(file.tell() - done)
                        done = file.tell()
        except (FormatError, AuthenticationFailed) as err:
            raise type(err)(f"{part.path}: {err}") from err
        except OSError as err:
            raise ConfigError(f"{part.path}: cannot be read: {err.strerror}") from err
        read = digest.hexdigest()
        if self.sha256_hex.setdefault(part.path.name, read) != read:
            raise ConfigError(f"{part.path}: changed while it was read")

    def _decrypted(self, file: BinaryIO, part: Part, digest: "hashlib._Hash") -> Iterator[bytes]:
        if not part.clear:
            how = self._opening
            yield from open_model_pieces(
                file, keys=how.keys, form=how.form, latin1=how.latin1, digest=digest
            )
            return
        while piece := file.read(_CLEAR_PIECE_BYTES):
            digest.update(piece)
            yield piece


def _whole_graph(pieces: Iterator[bytes], path: Path) -> bytes:
    xml = bytearray()
    for piece in pieces:
        xml += piece
        if len(xml) > MAX_XML_BYTES:
            raise FormatError(f"{path}: the graph's XML is longer than 64 MiB")
    return bytes(xml)


def find_parts(path: Path, clear: Sequence[str]) -> tuple[Part, ...]:
    """Return the file `path`, or the graph and the weights in the directory `path`.

    Args:
        path: of either.
        clear: which of "xml" and "bin" is not encrypted.

    Raises:
        ConfigError: not one of each in the directory; nothing encrypted is left.
    """
    if not path.is_dir():
        if clear:
            raise ConfigError("--clear goes with a directory: a file in the clear is sealed as is")
        return (Part(path=path),)
    found = []
    for suffix in ("xml", "bin"):
        files = [each for each in path.glob(f"*.{suffix}") if each.is_file()]
        if len(files) != 1:
            raise ConfigError(
                f"{path}: has {len(files)} files *.{suffix}; a model of OpenVINO is one .xml and "
                "one .bin"
            )
        found.append(Part(path=files[0], clear=suffix in clear))
    if all(part.clear for part in found):
        raise ConfigError("nothing is encrypted here; wardian seal --from openvino seals it")
    return tuple(found)


class PieceReader(io.RawIOBase):
    """Pieces as a file that is read once, from front to end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        """Read `pieces`; what they raise, reading raises."""
        self._pieces = pieces
        self._rest = memoryview(b"")

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        target = memoryview(buffer)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
