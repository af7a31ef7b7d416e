"""What somebody said, as it arrives: out of bytes, and not to be written to."""

from wardian.learning.content import raw_arrays, rebuild, specs_of
from wardian.learning.records import RecordDict


def carried(content: RecordDict) -> RecordDict:
    return rebuild(specs_of(content), b"".join(raw_arrays(content)))
