"""One entry of the request stream of Cluster Serving, and where its answer goes.

`uri` and `data`, and with `serde` = `stream` the body of an HTTP request as it is. A record that
has a `uri` can be answered whatever else is wrong with it: `parse_uri` comes first.
"""

from collections.abc import Mapping
from typing import Final

from wardian.errors import FormatError
from wardian.serving.zoo.arrow import MAX_STREAM_BYTES, parse_columns
from wardian.serving.zoo.columns import Columns
from wardian.serving.zoo.instances import MAX_JSON_BYTES, parse_instances

MAX_URI_BYTES: Final = 4096
_PREFIX: Final = b"cluster-serving_"


def parse_uri(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the record's name among its client's: any bytes, 0 to `MAX_URI_BYTES` of them.

    Raises:
        FormatError: there is none, so that nobody can wait for an answer; or it is too long.
    """
    uri = fields.get(b"uri")
    if uri is None:
        raise FormatError("a record: it has no uri")
    if len(uri) > MAX_URI_BYTES:
        raise FormatError(f"a record: a uri of {len(uri)} bytes, at most {MAX_URI_BYTES} fit")
    return uri


def parse_record(
    fields: Mapping[bytes, bytes],
    *,
    max_bytes: int = MAX_STREAM_BYTES,
    max_json_bytes: int = MAX_JSON_BYTES,
) -> list[Columns]:
    """Return the instances in a record: one in an Arrow stream, one or more in JSON.

    Fields of other names are not looked at, as by their server.

    Args:
        fields: of a stream's entry, untrusted.
        max_bytes: of an Arrow stream, decoded.
        max_json_bytes: of JSON.

    Raises:
        FormatError: no data, an unknown `serde`, or data that is not what `serde` says.
    """
    data = fields.get(b"data")
    if data is None:
        raise FormatError("a record: it has no data")
    serde = fields.get(b"serde")
    if serde is None:
        return [parse_columns(data, max_bytes=max_bytes)]
    if serde == b"stream":
        return parse_instances(data, max_bytes=max_json_bytes)
    raise FormatError('a record: an unknown serde; none, or "stream", was expected')


def result_key(job: bytes, uri: bytes) -> bytes:
    """Return the key of the hash in whose field `value` the client looks for its answer."""
    return _PREFIX + job + b":" + uri
