"""What whoever has the key of a sealed file can do: other content, the same pin."""

import io
from pathlib import Path

from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_stream import payload_cipher, read_header, unwrap_file_key
from wardian.crypto.secret import Secret


def reseal(path: Path, content: bytes, key: Secret) -> None:
    """Seal `content`, as long as what is in the file at `path`, and alike in its last chunk."""
    source = io.BytesIO(path.read_bytes())
    header = read_header(source)
    cipher = payload_cipher(header, unwrap_file_key(header, [BrokerKey(key)]))
    begin, size = source.tell(), header.chunk_bytes
    assert len(content) == header.total_bytes > size
    out = bytearray(source.getvalue()[:begin])
    for index in range(cipher.chunks):
        plain = content[index * size :][: cipher.plain_bytes(index)]
        chunk = bytearray(len(plain) + 16)
        cipher.seal(index, memoryview(plain), memoryview(chunk))
        out += chunk
    assert out[-16:] == source.getvalue()[-16:]
    path.write_bytes(out)
