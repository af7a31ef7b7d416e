r"""OpenVINO's IR as one file: the graph in XML, then the weights (ADR 0021).

OpenVINO writes a model as two files, `model.xml` and `model.bin`. A sealed file is one, with one
pin, so that no half can be swapped for that of another version. Byte form, little-endian:

    0   8   b"WRDNIR1\n"
    8   8   length of the XML, 1 to 64 MiB
    16      the XML
            zeros up to a multiple of 64 from the start: where vector loads of weights begin best
            the weights, to the end

A model with a vocabulary (`text.vocabulary`) begins with b"WRDNIR2\\n" instead:

    16  8   length of the vocabulary, 1 to 16 MiB
    24      the XML
            the vocabulary
            zeros, and the weights, as above
"""

import re
import struct

from wardian.errors import FormatError
from wardian.inference.text.vocabulary import MAX_VOCABULARY_BYTES

MEDIA_TYPE = "application/vnd.wardian.openvino-ir"
_HEAD = struct.Struct("<8sQ")
_MAGIC = b"WRDNIR1\n"
_HEAD_TEXT = struct.Struct("<8sQQ")
_MAGIC_TEXT = b"WRDNIR2\n"
_ALIGN = 64
MAX_XML_BYTES = 64 * 1024**2
_MAX_TAGS = 4_000_000
_BODY = re.compile(rb"<(/?)body\b[^<>]*?(/?)>")
_MAX_DEPTH = 16
_FIRST = re.compile(rb"\A(?:<\?xml[^<>]*\?>\s*)?<net[\s>]")


def build_ir(xml: bytes, weights: bytes | memoryview, vocabulary: bytes = b"") -> bytes:
    """Return `xml` and `weights`, and a vocabulary if there is one, as one file.

    Raises:
        FormatError: `xml` is not what `parse_ir` accepts.
    """
    _verify_xml(xml)
    head = _HEAD.pack(_MAGIC, len(xml))
    if vocabulary:
        head = _HEAD_TEXT.pack(_MAGIC_TEXT, len(xml), len(vocabulary))
    used = len(head) + len(xml) + len(vocabulary)
    return b"".join((head, xml, vocabulary, bytes(-used % _ALIGN), weights))


def parse_ir(data: bytes | bytearray) -> tuple[bytes, memoryview]:
    """Return the XML of the file `data`, and its weights as a view.

    Raises:
        FormatError: not such a file. Whether the graph is one, and its weights lie within the
            file, the engine says.
    """
    first, middle, end = _lengths(data)
    start = end + -end % _ALIGN
    view = memoryview(data)
    if start > len(data) or any(view[end:start]):
        raise FormatError("model: the weights do not begin where they should")
    xml = bytes(view[first:middle])
    _verify_xml(xml)
    return xml, view[start:]


def vocabulary_in(data: bytes | bytearray) -> bytes | None:
    """Return the vocabulary in the file `data`, which `parse_ir` accepts; None: it has none."""
    _, middle, end = _lengths(data)
    return bytes(memoryview(data)[middle:end]) if end > middle else None


def _lengths(data: bytes | bytearray) -> tuple[int, int, int]:
    """Return where the XML begins and ends, and where the vocabulary behind it ends.

    Raises:
        FormatError: not such a file, or too short for what it says.
    """
    head, vocabulary = _HEAD, 0
    if data.startswith(_MAGIC_TEXT) and len(data) >= _HEAD_TEXT.size:
        head = _HEAD_TEXT
        _, length, vocabulary = head.unpack_from(data)
        if not 0 < vocabulary <= MAX_VOCABULARY_BYTES:
            raise FormatError("model: a vocabulary of no bytes, or above 16 MiB")
    elif data.startswith(_MAGIC) and len(data) >= _HEAD.size:
        _, length = head.unpack_from(data)
    else:
        raise FormatError("model: not OpenVINO IR as `wardian seal --from openvino` makes it")
    if length > min(MAX_XML_BYTES, len(data) - head.size - vocabulary):
        raise FormatError("model: the graph's XML is longer than the file, or than 64 MiB")
    return head.size, head.size + length, head.size + length + vocabulary


def _verify_xml(xml: bytes) -> None:
    """Return if the engine's readers other than that of IR will not try to make sense of `xml`."""
    if _FIRST.match(xml) is None:
        raise FormatError("model: the graph's XML does not begin with <net>")
    if b"<!" in xml or b"\0" in xml:
        raise FormatError("model: the graph's XML has a document type, a comment or a zero byte")
    if len(xml) > MAX_XML_BYTES or xml.count(b"<") > _MAX_TAGS:
        raise FormatError("model: the graph's XML has more tags than any model")
    depth = 0
    for closing, empty in _BODY.findall(xml):
        depth += 0 if empty else -1 if closing else 1
        if depth > _MAX_DEPTH:
            raise FormatError(f"model: graphs nested deeper than {_MAX_DEPTH}")
