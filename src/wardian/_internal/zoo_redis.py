"""`[dialects.zoo_redis]` of `wardian.toml`: which streams of another product's Redis are served.

What stands there is the owner's to say and measured, as the whole file is: without the table the
role `zoo` does not start, and a manifest that lists it is refused.
"""

from typing import Annotated

import msgspec

from wardian._internal.settings import Name, Settings

JobName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,128}\Z")]
"""The name of a stream: the `name` of their client, `jobName` of their server."""
ColumnName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class ZooJob(Settings, frozen=True, kw_only=True):
    """One stream, and the model that answers what stands in it."""

    model: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    """None: whichever takes the requests that name none."""
    top_n: (
        Annotated[str, msgspec.Meta(pattern=r"\A(topN|pickTopN)\([1-9][0-9]{0,4}\)\Z")] | None
    ) = None
    """Their `postProcessing`: a result is the text of an output's largest elements."""
    result_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=2_592_000)] = 3600
    """For how long a result that nobody fetches stays in Redis."""
    record_encrypted: bool = False
    """Their `recordEncrypted`: images are encrypted, with a key that everybody knows."""
    columns: Annotated[dict[ColumnName, ColumnName], msgspec.Meta(max_length=64)] = msgspec.field(
        default_factory=dict
    )
    """By the name that clients give a column, the model's input that it is, where they differ."""

    def __post_init__(self) -> None:
        """Refuse two columns for one input."""
        if len(set(self.columns.values())) < len(self.columns):
            raise ValueError("`columns` names one input of the model twice")


class ZooRedisTerms(Settings, frozen=True, kw_only=True):
    """`[dialects.zoo_redis]`: the clear text of every record lies in a Redis of the operator's."""

    jobs: Annotated[dict[JobName, ZooJob], msgspec.Meta(min_length=1, max_length=16)]
    """By the name of the stream."""
