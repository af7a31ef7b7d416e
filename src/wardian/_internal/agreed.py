"""`wardian.toml`, and a keeper's `keeper.toml`: agreed between the owners, and measured.

The digest is part of a role's measurement, so what stands there can be trusted by whoever accepts
the measurement. It names models, limits, the owners' public keys and the keepers of the broker's
counter, and nothing that scaling changes.
"""

from typing import Annotated, Literal

import msgspec

from wardian._internal.settings import Name, PositiveInt, PublicKey, Settings, Sha256
from wardian._internal.steps import GenerateTerms, PostStep, PreStep
from wardian._internal.zoo_redis import ZooRedisTerms

KeeperTcb = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
]
"""Intel's words for the state of a keeper's platform."""


class Mesh(Settings, frozen=True, kw_only=True):
    """`[mesh]`: who owns it. `owners` are their public keys in hex, `threshold` of them sign."""

    name: Name
    owners: Annotated[tuple[PublicKey, ...], msgspec.Meta(min_length=1, max_length=64)]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    lease_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 3600
    """How long a certificate is valid, and how long a process serves that no broker renewed. It
    renews at half of it."""
    epoch_s: Annotated[int, msgspec.Meta(ge=60, le=2_592_000)] = 86_400
    """After which time the broker replaces the queue keys. A new manifest, and an owner's order,
    do so at once."""
    witnesses: Annotated[tuple[PublicKey, ...], msgspec.Meta(max_length=16)] = ()
    """Who countersigns heads of the audit log; owners may be among them."""
    head_threshold: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    """How many witnesses have to have seen the log before a process takes keys from its broker; 0:
    none, and then one broker that runs twice can show each process a log of its own (TRUST T22)."""
    head_max_lines: PositiveInt = 10_000
    """By how many lines the log may have gone on since they saw it."""
    head_max_age_s: Annotated[int, msgspec.Meta(ge=60, le=2_592_000)] = 86_400
    """How long ago that may be, by the witnesses' clocks."""

    def __post_init__(self) -> None:
        """Refuse a mesh whose owners, or witnesses, could never be enough, or are fewer than said.

        Whoever has a P-256 key has the one of the other sign, too: 02 and 03 before one number.
        """
        for who, keys in (("owners", self.owners), ("witnesses", self.witnesses)):
            if len({key[-64:] for key in keys}) < len(keys):
                raise ValueError(f"`{who}` names one key twice")
        if self.threshold > len(self.owners):
            raise ValueError("`threshold` is above the number of owners")
        if self.head_threshold > len(self.witnesses):
            raise ValueError("`head_threshold` is above the number of witnesses")


class ModelTerms(Settings, frozen=True, kw_only=True):
    """`[models.NAME]`: how a model is run, whatever its version."""

    media_type: Literal["application/onnx", "application/vnd.wardian.openvino-ir"] = (
        "application/onnx"
    )
    """The only two that are opened in an enclave; others are converted by `wardian seal --from`."""
    engine: Literal["openvino", "onnxruntime", "auto"] = "auto"
    """auto: the worker measures which is faster, of those whose answers agree."""
    precision: Literal["f32", "bf16"] = "f32"
    """bf16 is faster where the processor has it, and changes predictions; OpenVINO alone has it."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64
    """Most rows that one inference takes; 1 runs each request by itself, whole. A worker that
    measures no gain from so many takes fewer."""
    batch_across_tenants: bool = False
    """Whether the owner says that a row's answer never depends on its neighbours, so that rows of
    strangers may share an inference (TRUST T19)."""
    max_model_bytes: PositiveInt = 2 * 1024**3
    pre: Annotated[tuple[PreStep, ...], msgspec.Meta(max_length=16)] = ()
    """What is done to the inputs before the model, in order."""
    post: Annotated[tuple[PostStep, ...], msgspec.Meta(max_length=16)] = ()
    """What is done to its outputs after it."""
    generate: GenerateTerms | None = None
    """The model generates text; see there."""

    def __post_init__(self) -> None:
        """Refuse an engine that cannot do what is asked of it."""
        if self.generate is not None and (self.pre or self.post):
            raise ValueError("`generate` takes the place of `pre` and `post`")
        if self.engine == "onnxruntime" and self.media_type != "application/onnx":
            raise ValueError("`engine` onnxruntime takes `media_type` application/onnx alone")
        if self.engine == "onnxruntime" and self.precision != "f32":
            raise ValueError("`engine` onnxruntime has `precision` f32 alone")


class Limits(Settings, frozen=True, kw_only=True):
    """`[limits]`: what one front end accepts."""

    max_body_bytes: PositiveInt = 16 * 1024**2
    max_waiting: PositiveInt = 4096
    """Requests accepted and not yet answered, over all connections; then 429."""
    deadline_ms: Annotated[int, msgspec.Meta(ge=10, le=600_000)] = 10_000
    """Within this time an accepted request has its answer or a typed error."""
    header_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    body_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    idle_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 75.0
    max_connections: PositiveInt = 1024


class Keeper(Settings, frozen=True, kw_only=True):
    """`[[counter.keepers]]`: one keeper of the broker's counter, as `wardian keeper show` says."""

    name: Name
    key: Sha256
    """Of its key, DER SubjectPublicKeyInfo. A keeper that lost its state has another one."""
    platform: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    """PPID of the machine that it runs on."""
    simulation_root_sha256: Sha256 | None = None
    """Of the root of a simulated one; None: Intel's, and nothing else."""


class Counter(Settings, frozen=True, kw_only=True):
    """`[counter]`: who keeps the counter that says which state of the broker is the newest.

    On hardware there is no broker without it; in a simulation a file of the host stands in.
    """

    keepers: Annotated[tuple[Keeper, ...], msgspec.Meta(min_length=3, max_length=16)]
    measurements: Annotated[tuple[Sha256, ...], msgspec.Meta(min_length=1, max_length=16)]
    """Of the keepers' code."""
    put_back: Annotated[int, msgspec.Meta(ge=0, le=15)] = 0
    """How many of the keepers' hosts may put older files back, while others cannot be reached, and
    still no old state of the broker opens. N keepers bear it from 3 * put_back + 1 on."""
    tcb_statuses: Annotated[tuple[KeeperTcb, ...], msgspec.Meta(min_length=1)] = (
        "UpToDate",
        "SWHardeningNeeded",
    )
    advisories: Annotated[tuple[str, ...], msgspec.Meta(max_length=256)] = ()
    """Advisories that are accepted; any other that a keeper's evidence carries is refused."""

    def __post_init__(self) -> None:
        """Refuse keepers that are one, and a quorum that they cannot be."""
        for what in ("name", "key", "platform"):
            if len({getattr(keeper, what) for keeper in self.keepers}) < len(self.keepers):
                raise ValueError(f"two `keepers` have one `{what}`")
        if (len(self.keepers) + self.put_back) // 2 + 1 > len(self.keepers):
            raise ValueError("`put_back` is above what so many keepers can bear")
        simulated = {keeper.simulation_root_sha256 is not None for keeper in self.keepers}
        if len(simulated) > 1:
            raise ValueError("`keepers` are all on hardware, or all simulated")


class Tenants(Settings, frozen=True, kw_only=True):
    """`[tenants]`: front ends serve nobody but whom a list names that `signers` signed.

    Without it there is no list, and whoever connects is served.
    """

    signers: Annotated[tuple[PublicKey, ...], msgspec.Meta(min_length=1, max_length=64)]
    """Public keys in hex, as owners'; owners may be among them."""
    threshold: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """How many of them sign a list."""
    max_age_s: Annotated[int, msgspec.Meta(ge=3600, le=31_622_400)] = 2_592_000
    """For how long a list holds from when it was issued, whatever it says itself. Bounds for how
    long a host can keep a newer one back."""

    def __post_init__(self) -> None:
        """Refuse signers who could never be enough, or are fewer than said; see `Mesh`."""
        if len({key[-64:] for key in self.signers}) < len(self.signers):
            raise ValueError("`signers` names one key twice")
        if self.threshold > len(self.signers):
            raise ValueError("`threshold` is above the number of signers")


class ZooDialect(Settings, frozen=True, kw_only=True):
    """`[dialects.zoo]`: front ends also have the paths of Analytics Zoo Cluster Serving."""

    enabled: bool
    default_model: Name | None = None
    """Which model `/predict` asks; None: the only one, and of several there is no such path."""
    compat: Literal["sane", "strict"] = "sane"
    """strict: what goes wrong is answered as the original did, a bad shape as a success."""
    model_answers: Literal["json", "arrow"] = "json"
    """How `/models/NAME/versions/N/predict` answers: as its `inputCompileType` "instance" did, or
    as "direct", the default of BigDL 2."""
    keystore: bool = False
    """Whether the role `zoo` has these paths as well, under a certificate whose private key the
    operator holds. Whoever holds that key reads all that is said there: UNPROTECTED."""

    def __post_init__(self) -> None:
        """Refuse a dialect that is off and served."""
        if self.keystore and not self.enabled:
            raise ValueError("`keystore` is of a dialect that is `enabled`")


class Dialects(Settings, frozen=True, kw_only=True):
    """`[dialects]`: other products' interfaces; without a table of its own none is there."""

    zoo: ZooDialect | None = None
    zoo_redis: ZooRedisTerms | None = None


class Agreed(Settings, frozen=True, kw_only=True):
    """`wardian.toml`."""

    mesh: Mesh
    counter: Counter | None = None
    tenants: Tenants | None = None
    models: Annotated[dict[Name, ModelTerms], msgspec.Meta(min_length=1, max_length=256)]
    limits: Limits = Limits()
    dialects: Dialects = Dialects()

    def __post_init__(self) -> None:
        """Refuse a dialect that names a model which there is not."""
        zoo = self.dialects.zoo
        if zoo is not None and zoo.default_model not in {None, *self.models}:
            raise ValueError("`dialects.zoo.default_model` is none of `models`")
        jobs = self.dialects.zoo_redis.jobs if self.dialects.zoo_redis else {}
        for name, job in jobs.items():
            if job.model not in self.models:
                raise ValueError(f"`dialects.zoo_redis.jobs.{name}.model` is none of `models`")


class KeeperTerms(Settings, frozen=True, kw_only=True):
    """`keeper.toml`: what is agreed of a keeper of counters. It serves any broker, so it is little.

    It is measured, as `wardian.toml` is.
    """

    service: Name = "keeper"
    """What the keepers of one group are called; another name is another measurement."""
