r"""OpenVINO's IR as one file: the graph in XML, then the weights (ADR 0021).

OpenVINO writes a model as two files, `model.xml` and `model.bin`. A sealed file is one, with one
pin, so that no half can be swapped for that of another version. Byte form, little-endian:

    0   8   b"WRDNIR1\n"
    8   8   length of the XML, 1 to 64 MiB
    16      the XML
            zeros up to a multiple of 64 from the start: where vector loads of weights begin best
            the weights, to the end
"""

import re
import struct

from wardian.errors import FormatError

MEDIA_TYPE = "application/vnd.wardian.openvino-ir"
_HEAD = struct.Struct("<8sQ")
_MAGIC = b"WRDNIR1\n"
_ALIGN = 64
MAX_XML_BYTES = 64 * 1024**2
_MAX_TAGS = 4_000_000
_BODY = re.compile(rb"<(/?)body\b[^<>]*?(/?)>")
_MAX_DEPTH = 16
_FIRST = re.compile(rb"\A(?:<\?xml[^<>]*\?>\s*)?<net[\s>]")


def build_ir(xml: bytes, weights: bytes) -> bytes:
    """Return `xml` and `weights` as one file.

    Raises:
        FormatError: `xml` is not what `parse_ir` accepts.
    """
    _verify_xml(xml)
    head = _HEAD.pack(_MAGIC, len(xml))
    return b"".join((head, xml, bytes(-(len(head) + len(xml)) % _ALIGN), weights))


def parse_ir(data: bytes | bytearray) -> tuple[bytes, memoryview]:
    """Return the XML of the file `data`, and its weights as a view.

    Raises:
        FormatError: not such a file. Whether the graph is one, and its weights lie within the
            file, the engine says.
    """
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise FormatError("model: not OpenVINO IR as `wardian seal --from openvino` makes it")
    _, length = _HEAD.unpack_from(data)
    if length > min(MAX_XML_BYTES, len(data) - _HEAD.size):
        raise FormatError("model: the graph's XML is longer than the file, or than 64 MiB")
    end = _HEAD.size + length
    start = end + -end % _ALIGN
    view = memoryview(data)
    if start > len(data) or any(view[end:start]):
        raise FormatError("model: the weights do not begin where they should")
    xml = bytes(view[_HEAD.size : end])
    _verify_xml(xml)
    return xml, view[start:]


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
