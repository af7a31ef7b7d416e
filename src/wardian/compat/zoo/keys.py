"""Every key of Cluster Serving's files, and what becomes of it: `keys_page` shows it.

The facts of the original are those of Analytics Zoo 0.9 to 0.11 and BigDL 2.x.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec


class Fate(StrEnum):
    """What becomes of a key."""

    WORKS = "works"
    NOT_NEEDED = "is not needed"
    CANNOT = "cannot be had"
    UNKNOWN = "is unknown"
    """Of no version of Cluster Serving, which passed over it without a word. Not in the table."""


Text = Annotated[str, msgspec.Meta(max_length=4096)]
Flag = bool
Whole = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=256)]
Names = tuple[Text, ...]

FLAT: Final = "config.yaml"
CLUSTER: Final = "ClusterServingMetaData"
IN_PROCESS: Final = "InferenceModelMetaData"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key.

    Attributes:
        name: as the documentation of the original writes it.
        nested: where it stood in 0.9, as "group.key"; "": nowhere.
        kind: the type of its value here.
        fate: what becomes of it.
        told: what it becomes; or why it is not needed; or what to write instead.
        secret: whether its value is one. No value of such a key is kept, shown or written.
    """

    name: str
    nested: str = ""
    kind: Any = Text
    fate: Fate
    told: str
    secret: bool = False


NO_STREAM: Final = (
    "clients ask the front end over HTTPS; `--stream` has the stream read as well, whose records "
    "lie in the clear (zoo-redis)"
)
"""What is said of a Redis where no stream is served."""
JKS: Final = (
    "a Java key store is not read here: export the certificate of its CA as PEM (`keytool "
    "-exportcert -rfc -keystore FILE -alias NAME`) and give `--redis-ca-file`"
)
_PEM = "a certificate in PEM has no password; take it out of the file"

CONFIG: Final = (
    Key(
        name="modelPath",
        nested="model.path",
        fate=Fate.WORKS,
        told="the model in that directory is converted; `file` in example.toml",
    ),
    Key(
        name="jobName",
        nested="model.name",
        fate=Fate.WORKS,
        told="the model's name, and the mesh's; clients say it in place of the stream",
    ),
    Key(
        name="postProcessing",
        nested="data.filter",
        fate=Fate.WORKS,
        told="with `--stream` `top_n` of the stream, which gets the same text as before; else "
        "`post` of the model in wardian.toml, step `top`",
    ),
    Key(
        name="imageResize",
        fate=Fate.CANNOT,
        told="images here are RGB, there BGR: with a model for RGB write `pre = [{ step = "
        '"image", input = "NAME" }]` to wardian.toml, which resizes to what the model takes',
    ),
    Key(
        name="inputAlreadyBatched",
        kind=Flag,
        fate=Fate.NOT_NEEDED,
        told="a request says its rows: the first axis of its tensors, or its `instances`",
    ),
    Key(
        name="coreNumberPerMachine",
        nested="params.core_number",
        kind=Whole,
        fate=Fate.WORKS,
        told="above 0: `threads` of an OpenVINO model in wardian.toml, of others [worker] "
        "`replicas` in operator.toml; -1: nothing",
    ),
    Key(
        name="modelParallelism",
        nested="params.model_number",
        kind=Count,
        fate=Fate.WORKS,
        told="[worker] `replicas` in operator.toml",
    ),
    Key(
        name="threadPerModel",
        kind=Count,
        fate=Fate.WORKS,
        told="`threads` of the model in wardian.toml; how many requests share an inference is "
        "measured by the worker",
    ),
    Key(
        name="performance_mode",
        nested="params.performance_mode",
        fate=Fate.NOT_NEEDED,
        told="it set environment variables in the start script; a role's are measured",
    ),
    Key(
        name="flinkRestUrl",
        nested="flink.rest",
        fate=Fate.NOT_NEEDED,
        told="there is no Flink: `wardian up` starts the processes itself",
    ),
    Key(
        name="redisUrl",
        nested="data.src",
        fate=Fate.WORKS,
        told="with `--stream` [zoo] `redis` in operator.toml, where the stream `jobName` is read "
        "(`[dialects.zoo_redis]` in wardian.toml): UNPROTECTED. Without it cannot be had",
    ),
    Key(
        name="redisMaxMemory",
        nested="redis.maxmem",
        fate=Fate.NOT_NEEDED,
        told="it was never applied by the job; `max_waiting` in wardian.toml bounds what waits, "
        "and nothing unread is dropped",
    ),
    Key(
        name="redisTimeout",
        nested="redis.timeout",
        kind=Whole,
        fate=Fate.NOT_NEEDED,
        told="a request has its answer or a typed error within `deadline_ms` of wardian.toml",
    ),
    Key(
        name="redisSecureEnabled",
        nested="secure.secure_enabled",
        kind=Flag,
        fate=Fate.WORKS,
        told="with `--stream` `rediss://` in [zoo] of operator.toml, under the CA of "
        "`--redis-ca-file`. Without it is not needed",
    ),
    Key(
        name="redisSecureTrustStorePath",
        nested="secure.secure_trust_store_path",
        fate=Fate.NOT_NEEDED,
        told=JKS,
    ),
    Key(
        name="redisSecureTrustStorePassword",
        nested="secure.secure_struct_store_password",
        fate=Fate.NOT_NEEDED,
        told=_PEM,
        secret=True,
    ),
    Key(
        name="modelEncrypted",
        nested="secure.model_encrypted",
        kind=Flag,
        fate=Fate.WORKS,
        told="where it is true `--form` and `--bits` say how, and a sealed file is made of the "
        "model in memory. Without them it is not touched",
    ),
    Key(
        name="recordEncrypted",
        kind=Flag,
        fate=Fate.WORKS,
        told="with `--stream` `record_encrypted` of the stream; its key is the same everywhere and "
        'hides nothing. Without it cannot be had; a client seals by `seal="worker"`',
    ),
    Key(
        name="queueUsed",
        fate=Fate.NOT_NEEDED,
        told="the queue is in the front end, or in a Redis of its own (run-with-redis)",
    ),
    Key(
        name="kafkaUrl",
        fate=Fate.CANNOT,
        told="there is no queue over Kafka; leave it out",
    ),
)
"""`config.yaml`, flat, and nested as in 0.9."""

_BOTH = (
    Key(
        name="modelName",
        fate=Fate.WORKS,
        told="the model's name in wardian.toml and example.toml",
    ),
    Key(
        name="modelVersion",
        fate=Fate.WORKS,
        told="`version` in example.toml: a whole number; of 1.0 the 1",
    ),
    Key(
        name="inputCompileType",
        fate=Fate.NOT_NEEDED,
        told="how the front end spoke to its workers; with `--http` the answers are in Arrow's "
        "form (`model_answers`) where every servable of the job says `direct`",
    ),
    Key(
        name="features",
        kind=Names,
        fate=Fate.NOT_NEEDED,
        told="the model itself says what its inputs are called",
    ),
)
_WINDOW = "it had no effect in the original"
RATE: Final = "rates are those of a caller: `rate_per_s` in the tenants list"
_SAME_REDIS = (
    "with `--stream` it has to be that of `redisUrl`, which is read; front ends ask no Redis"
)

SERVABLES: Final = {
    CLUSTER: (
        *_BOTH,
        Key(name="redisHost", fate=Fate.WORKS, told=_SAME_REDIS),
        Key(name="redisPort", kind=Whole, fate=Fate.WORKS, told=_SAME_REDIS),
        Key(
            name="redisInputQueue",
            fate=Fate.WORKS,
            told="says which model is meant: that of the config.yaml whose `jobName` it is",
        ),
        Key(name="redisOutputQueue", fate=Fate.NOT_NEEDED, told="answers come with the request"),
        Key(name="timeWindow", kind=Whole, fate=Fate.NOT_NEEDED, told=_WINDOW),
        Key(name="countWindow", kind=Whole, fate=Fate.NOT_NEEDED, told=_WINDOW),
        Key(name="tokenBucketEnabled", kind=Flag, fate=Fate.CANNOT, told=RATE),
        Key(name="tokensPerSecond", kind=Whole, fate=Fate.CANNOT, told=RATE),
        Key(
            name="redisSecureEnabled",
            kind=Flag,
            fate=Fate.NOT_NEEDED,
            told="config.yaml says whether its Redis has TLS",
        ),
        Key(name="redisTrustStorePath", fate=Fate.NOT_NEEDED, told=JKS),
        Key(name="redisTrustStoreToken", fate=Fate.NOT_NEEDED, told=_PEM, secret=True),
    ),
    IN_PROCESS: (
        *_BOTH,
        Key(
            name="modelPath",
            fate=Fate.WORKS,
            told="the model is converted; `file` in example.toml",
        ),
        Key(
            name="modelType",
            fate=Fate.WORKS,
            told="says what the file is: OpenVINO, tf.frozenModel and PyTorch are converted, "
            "BigDL and Caffe are not",
        ),
        Key(
            name="weightPath",
            fate=Fate.WORKS,
            told="the weights of an OpenVINO model, which go into the same file",
        ),
        Key(
            name="modelConCurrentNum",
            kind=Count,
            fate=Fate.WORKS,
            told="[worker] `replicas` in operator.toml, the most that any model asks for",
        ),
    ),
}
"""`servables.yaml`, by the tag of an entry."""
