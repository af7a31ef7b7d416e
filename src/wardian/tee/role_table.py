"""Which code each role consists of. What is not named here, a role's process cannot import.

The table is the trusted computing base of each process, to be read by an auditor and tightened
over time. `measurement` hashes what it names, `bootstrap` imports nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_ENVIRONMENT = MappingProxyType(
    {
        "HOME": "/nonexistent",  # no library finds a place for caches or telemetry ids
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENSSL_CONF": "/dev/null",  # the system's file is not measured, and can load code
        "TZ": "UTC0",  # says it all: no time zone file is looked up
    }
)
# The C library would give every large buffer back to the kernel and get it again as fresh pages,
# zeroed one by one: for a message of 600 KB that costs more than its encryption.
_TENSORS = MappingProxyType(
    {
        **_ENVIRONMENT,
        "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
        "MALLOC_TRIM_THRESHOLD_": str(256 * 1024**2),
    }
)
_MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """A file of the host that a role may read although it is not trusted, and why.

    Attributes:
        path: for `allowed`, relative to the role's directory; for `kernel`, an absolute path.
            One that ends in "/" means what lies below it.
        reason: why nothing depends on its being true.
    """

    path: str
    reason: str


_SETTINGS = (
    HostFile(
        path="host.json",
        reason="the operator's settings: addresses and paths. They may lie and cost service; no "
        "security decision reads them",
    ),
)
_PROCESSORS = (
    HostFile(path="/sys/devices/system/cpu/online", reason="how many threads a pool gets"),
    HostFile(path="/sys/devices/system/cpu/possible", reason="how many threads a pool gets"),
    HostFile(path="/proc/self/cgroup", reason="how much processor time the host grants"),
)
_COUNTED = (
    *_PROCESSORS,
    HostFile(path="/proc/self/stat", reason="its own CPU seconds, for /metrics"),
    HostFile(path="/proc/self/limits", reason="its own limits, for /metrics"),
    HostFile(path="/proc/self/fd/", reason="its own descriptors, for /metrics"),
    HostFile(path="/proc/stat", reason="when the machine started, for /metrics"),
)

_BACKUP = HostFile(
    path="backup",
    reason="a backup of the broker's own state: ciphertext, taken up only if it opens and is the "
    "newest, or if the owners say so",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """What one role is made of.

    Attributes:
        entry: the module whose `main(enclave: Enclave) -> int` is the process; its result is the
            exit status.
        modules: modules and whole packages of Wardian that the role may import. The `__init__` of
            every package above one is included.
        distributions: installed distributions that it may import, by their PyPI names.
        optional: likewise, those that it goes without where they are not installed at its build.
        data: files of these that are no code and are read all the same, relative to where they are
            installed.
        stdlib: parts of the standard library that other roles go without: a library imports them.
        product_id: ISVPRODID; each role has its own, so that one never unseals another's state.
        heap_bytes: memory that the process needs beside models and requests.
        threads: threads that it starts beside those of its inference engine.
        svn: ISVSVN; raised when a flaw in this role is fixed that reference values shall exclude.
        environment: the whole environment of the process, but for what the builder finds out.
        keeps_state: whether it gets an encrypted mount for state.
        of_mesh: whether its measured settings are a mesh's (`agreed.Agreed`); a keeper of
            counters serves any mesh, and has `agreed.KeeperTerms`; an aggregator serves a
            consortium, and has `consortium.Consortium`.
        allowed: files of the operator that it reads.
        kernel: read-only files of `/proc` and `/sys` that it reads. Gramine makes its own; the
            simulation opens the host's to it.
    """

    entry: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    product_id: int
    optional: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    stdlib: tuple[str, ...] = ()
    heap_bytes: int = 256 * _MIB
    threads: int = 8
    svn: int = 1
    environment: Mapping[str, str] = field(default_factory=lambda: _ENVIRONMENT)
    keeps_state: bool = False
    of_mesh: bool = True
    allowed: tuple[HostFile, ...] = _SETTINGS
    kernel: tuple[HostFile, ...] = _PROCESSORS


def _within(room: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"wardian.{room}.{module}" for module in modules)


_EVERY_PROCESS = (
    "wardian.errors",
    *_within("_internal", "clock", "log", "operator", "settings", "wire"),
    *_within("attestation", "evidence"),
    *_within("broker", "frames", "message_fields", "refusal"),
    *_within("crypto", "hpke", "kdf", "secret", "signing", "tls_keys"),
    *_within("roles", "host", "self_test", "start"),
    *_within("tee", "backend", "bootstrap", "gramine", "gramine_direct"),
    *_within("tee", "seccomp", "simulated"),
)
_AGREED = _within("_internal", "agreed", "steps", "zoo_redis")
"""What a mesh, or a keeper, agrees to; a consortium has settings of its own."""
_VERIFYING = (
    *_EVERY_PROCESS,
    *_AGREED,
    *_within("attestation", "claims", "verifier"),
    *_within("attestation.appraisal", "policy", "rule", "rules_identity", "rules_platform"),
    *_within("attestation.certificates", "intel_root", "pem_chain", "vendor_chain", "x509_errors"),
    "wardian.attestation.collateral.bundle",
    *_within("attestation.quotes", "quote", "sgx", "tdx"),
    "wardian.attestation.results.result",
    *_within("attestation.verification", "dcap", "issuers", "refusal", "statements"),
    *_within("broker", "certificate_form", "certificates"),
    *_within("broker.mesh", "appraisal", "fields", "lines", "manifest", "trust", "verify"),
    *_within("broker.session", "asking", "form", "shown", "turns"),
    *_within("broker.state", "audit", "merkle"),
    *_within("broker.transparency", "cosigning", "following", "heads", "proofs"),
    *_within("crypto", "aead_stream", "recipients", "sealed_header"),
)
"""What verifies evidence against a mesh's manifest: all but a keeper, which knows no mesh."""
_OF_MESH = (
    *_VERIFYING,
    "wardian.broker.lease",
    *_within("broker.infrastructure", "certificates", "grant"),
    *_within("broker.release", "in_force", "protocol", "request_keys"),
)
"""What is given keys of models, or gives them."""
_ADMITTED = (
    *_OF_MESH,
    *_within("broker.release", "admission", "client", "workload_session"),
    *_within("broker.session", "client", "obtaining"),
    *_within("crypto", "hpke_context", "message", "message_header", "message_keys"),
    "wardian.crypto.sealed_request",
    *_within("inference", "dtypes", "spec"),  # the shape of tensors, no engine
    *_within("roles", "admission", "asking", "membership", "queue_access"),
    *_within("serving", "catalog", "codec", "descriptions", "rules", "sealed_pack", "shares"),
    "wardian.serving.tensors",
    *_within("serving.queue", "frames", "lease", "seam"),
    *_within("serving.queue", "redis_access", "redis_entries", "redis_heartbeat", "redis_link"),
    *_within("serving.queue", "redis_session", "redis_wire"),
    *_within("serving.queue", "blocks", "slab", "slab_handover"),
)
"""What the broker admits: front ends and workers."""
_DISPATCHING = (
    "wardian._internal.metrics",
    "wardian.roles.dispatching",
    *_within("serving", "departures", "dispatch", "flights", "lane_counts", "open_requests"),
    *_within("serving", "packing", "traces", "turns"),
    "wardian.serving.tenants.limits",
    *_within("serving.queue", "front", "front_peer", "listening", "redis_connection"),
    "wardian.serving.queue.redis_front",
    *_within("serving.queue", "redis_lanes", "redis_presence", "redis_traffic"),
    *_within("serving.queue", "redis_workers", "slab_front"),
)
"""What sends requests to workers, whoever asked."""
_BASE_DISTRIBUTIONS = ("cffi", "cryptography", "dcap-qvl", "msgspec", "typing_extensions")

ROLES: Mapping[str, RoleSpec] = MappingProxyType(
    {
        "broker": RoleSpec(
            entry="wardian.roles.broker",
            modules=(
                *_OF_MESH,
                *_within("_internal", "counter", "files"),
                "wardian.attestation.evidence_digest",
                *_within("attestation.appraisal", "bit_mask", "policy_file", "policy_keys"),
                *_within("attestation.appraisal", "policy_kinds", "rules_hardware", "rules_sgx"),
                "wardian.attestation.appraisal.rules_tdx",
                *_within("attestation.collateral", "cache", "pccs", "pccs_client", "pccs_source"),
                *_within("attestation.collateral", "platform_model", "signed", "source", "term"),
                *_within("attestation.results", "ear", "ear_key", "ear_token"),
                *_within(
                    "broker", "authority", "ca", "desk", "doorway", "epochs", "limits", "service"
                ),
                *_within("broker", "agreement", "certificate_builder", "mesh_keys", "recording"),
                "wardian.broker.status",
                *_within("broker.infrastructure", "acl", "ca", "desk", "keeping", "messages"),
                *_within("broker", "audit_log.desks", "status_desk"),
                *_within("broker.counting", "counters", "protocol", "quorum", "remote"),
                *_within("broker.keeping", "keeper_link", "keeper_peer", "messages", "own_counter"),
                *_within("broker.kbs", "answers", "clerk", "desk", "errands", "messages"),
                *_within("broker.kbs", "openapi", "sessions", "tokens"),
                *_within("broker.jobs", "canonical", "conditions", "decision", "merge", "parties"),
                *_within(
                    "broker.jobs", "plan", "policy", "rules", "signing", "standing", "verified"
                ),
                "wardian.broker.jobs.trainers",
                *_within("broker.exports", "broker_session", "desk", "exports", "protocol"),
                *_within("broker.exports", "served", "statement", "used"),
                *_within("broker.joint", "kept", "masked", "record"),
                "wardian.broker.mesh.chain",
                *_within(
                    "broker.owners",
                    "consents",
                    "desk",
                    "goods",
                    "log_desk",
                    "manifest_log",
                    "offers",
                ),
                *_within("broker.owners", "orders", "protocol", "provisioning", "visits"),
                *_within(
                    "broker.release", "broker_session", "desk", "epoch_keys", "grants", "policy"
                ),
                *_within("broker.release", "in_force_desk", "releases", "terms"),
                *_within("broker.session", "answering", "desk", "releasing"),
                *_within(
                    "broker.recovery", "backup", "backup_desk", "dealing", "desk", "gathering"
                ),
                *_within("broker.recovery", "keeper", "package", "place", "protocol", "sessions"),
                *_within(
                    "broker.standby", "active_session", "channel", "commits", "course", "desk"
                ),
                *_within("broker.standby", "door", "follower", "giving", "handover", "identity"),
                *_within("broker.standby", "messages", "place", "retired", "standby_session"),
                *_within("broker.standby", "standbys", "successor", "watch"),
                *_within("broker.state", "clock", "contents", "database", "drafts", "master_key"),
                *_within(
                    "broker.state", "named_secrets", "new_life", "opening", "replica", "replicas"
                ),
                *_within("broker.state", "sealer", "snapshot", "store"),
                *_within("broker.tables", "asked", "broker_session", "content", "debits", "desk"),
                *_within("broker.tables", "kept", "protocol", "releases", "terms"),
                "wardian.crypto.shamir",
                *_within("broker.transparency", "log", "sender", "witnessing"),
                *_within("crypto", "jose", "strict_text"),
                *_within("roles", "broker", "broker_counter", "broker_home", "kbs", "recovering"),
                *_within("roles", "standing_by", "succeeding"),
                *_within("serving.http", "connection", "messages", "newcomer", "outgoing", "peer"),
                *_within("serving.http", "reader", "server", "sharing", "state", "streamed", "tls"),
                "wardian.tee.sealing",
            ),
            distributions=(*_BASE_DISTRIBUTIONS, "httptools"),
            product_id=1,
            keeps_state=True,
            allowed=(*_SETTINGS, _BACKUP),
        ),
        "keeper": RoleSpec(
            entry="wardian.roles.keeper",
            modules=(
                *_EVERY_PROCESS,
                *_AGREED,
                "wardian._internal.files",
                *_within("broker", "doorway", "limits"),
                "wardian.broker.counting.protocol",
                *_within("broker.keeping", "ledger", "messages", "sealing", "service"),
                "wardian.broker.standby.identity",
                *_within("roles", "enclave_sealing", "keeper"),
                "wardian.tee.sealing",
            ),
            distributions=("cffi", "cryptography", "msgspec", "typing_extensions"),
            product_id=4,
            keeps_state=True,
            of_mesh=False,
        ),
        "aggregator": RoleSpec(
            entry="wardian.roles.aggregator",
            modules=(
                *_EVERY_PROCESS,
                *_within("_internal", "consortium", "files", "vertical"),
                *_within("broker", "doorway", "limits"),
                "wardian.broker.keeping.sealing",
                "wardian.broker.standby.identity",
                *_within("crypto", "aead_stream", "group_key", "hpke", "kdf", "keystream", "masks"),
                "wardian.crypto.shamir",
                *_within("learning", "arrays", "chain", "content", "message", "messages"),
                *_within("learning", "planned", "received", "records", "reduce", "replies"),
                *_within("learning", "rounds", "staging"),
                *_within("learning.coordinator", "answers", "attendant", "attending", "course"),
                *_within("learning.coordinator", "keeping", "masked", "question", "run", "service"),
                *_within("learning.coordinator", "courses", "vertical"),
                *_within("learning.coordinator.stages", "aligning", "labels", "linear", "network"),
                *_within("learning.coordinator.stages", "predicting", "stage", "trees", "trial"),
                *_within("learning.masking", "coordinator", "fixed_point", "messages", "plan"),
                *_within("learning.masking", "revealing", "steps", "unmasking", "vectors"),
                "wardian.learning.masking.verifying",
                *_within("learning.privacy", "accounting", "central", "clipping", "gaussian"),
                *_within("learning.privacy", "ledger", "mean", "noise"),
                *_within("learning.psi", "coordinator", "intersection", "messages", "terms"),
                "wardian.learning.boosting.forest",
                *_within("learning.strategies", "bagging", "demands", "fedavg", "fedprox", "kept"),
                *_within("learning.strategies", "optimisers", "robust", "scaffold", "strategy"),
                "wardian.learning.strategies.terms",
                *_within(
                    "learning.vertical", "chances", "drawn", "noise", "plans", "rows", "script"
                ),
                *_within("learning.vertical.linear", "coordinator", "descent", "messages"),
                *_within("learning.vertical.network", "coordinator", "layers", "messages", "plan"),
                *_within("learning.vertical.trees", "bins", "boosting", "coordinator", "forest"),
                *_within("learning.vertical.trees", "growth", "messages", "plan"),
                *_within("roles", "aggregator", "enclave_sealing"),
                "wardian.tee.sealing",
            ),
            distributions=(
                *("cffi", "cryptography", "msgspec", "numpy", "typing_extensions", "uvloop"),
            ),
            product_id=6,
            environment=_TENSORS,
            heap_bytes=2048 * _MIB,
            keeps_state=True,
            of_mesh=False,
        ),
        "job": RoleSpec(
            entry="wardian.roles.job",
            modules=(
                *_VERIFYING,
                "wardian._internal.files",
                *_within("attestation.appraisal", "bit_mask", "policy_file", "policy_keys"),
                *_within("attestation.appraisal", "policy_kinds", "rules_hardware", "rules_sgx"),
                "wardian.attestation.appraisal.rules_tdx",
                *_within("broker.jobs", "canonical", "merge", "parties", "plan", "policy", "rules"),
                "wardian.broker.jobs.trainers",
                "wardian.broker.keeping.sealing",
                *_within("broker.exports", "client", "exported", "job_session", "protocol"),
                "wardian.broker.exports.statement",
                "wardian.broker.joint.masked",
                "wardian.broker.joint.record",
                *_within("broker.session", "client", "obtaining"),
                *_within("broker.tables", "client", "content", "granted", "job_session"),
                *_within("broker.tables", "protocol", "terms"),
                *_within("crypto", "keystream", "sealed_file", "sealed_stream"),
                *_within("learning", "arrays", "layers", "message", "messages", "onnx_parts"),
                *_within("learning", "centres", "records", "replies", "shared"),
                *_within("learning.boosting", "boosters", "forest", "onnx", "predicting"),
                *_within("learning.privacy", "accounting", "gaussian", "mean", "noise"),
                *_within("learning.psi", "intersection", "tags"),
                *_within("roles", "asking", "enclave_sealing", "job"),
                "wardian.tee.sealing",
            ),
            distributions=(
                *_BASE_DISTRIBUTIONS,
                *(
                    "cloudpickle",
                    "joblib",
                    "narwhals",
                    "numpy",
                    "scikit-learn",
                    "scipy",
                    "threadpoolctl",
                ),
            ),
            optional=("duckdb", "pyarrow", "torch", "xgboost-cpu"),
            data=(
                "xgboost/VERSION",
                *(
                    f"torch/{name}/config.py"  # which read their own comments
                    for name in (
                        *("_dynamo", "_export", "_functorch", "_inductor", "compiler"),
                        *("distributed", "utils/serialization"),
                    )
                ),
                "torch/fx/experimental/_config.py",
                *(
                    f"sklearn/utils/_repr_html/{name}"
                    for name in ("estimator.css", "estimator.js", "features.css", "params.css")
                ),
            ),
            stdlib=("unittest",),  # SciPy takes all names of numpy, numpy.testing among them
            product_id=7,
            environment=MappingProxyType({**_TENSORS, "JOBLIB_MULTIPROCESSING": "0"}),
            heap_bytes=8192 * _MIB,
            keeps_state=True,
            allowed=(
                *_SETTINGS,
                HostFile(
                    path="job.toml",
                    reason="the plan: owners agree to the one whose digest the evidence binds",
                ),
                HostFile(
                    path="tables/",
                    reason="sealed tables: opened only where their owners pinned and signed them",
                ),
                HostFile(
                    path="approvals/",
                    reason="signatures of parties over what comes out: others count for nothing",
                ),
                HostFile(
                    path="out/",
                    reason="what leaves: sealed to its recipients, or told to everybody",
                ),
            ),
            kernel=(
                *_PROCESSORS,
                HostFile(path="/sys/devices/system/cpu/", reason="processors and their caches"),
                HostFile(path="/sys/fs/cgroup/", reason="how much of the machine is granted"),
                HostFile(path="/proc/self/maps", reason="which of its libraries have threads"),
                HostFile(path="/proc/cpuinfo", reason="which instructions libraries may use"),
                HostFile(path="/proc/meminfo", reason="how much memory libraries may plan with"),
            ),
        ),
        "frontend": RoleSpec(
            entry="wardian.roles.frontend",
            modules=(
                *_ADMITTED,
                *_DISPATCHING,
                *_within("roles", "frontend", "tenants", "traffic"),
                *_within("serving", "dispatch_metrics", "frontend", "frontend_evidence"),
                *_within("serving.tenants", "account", "api_key", "callers", "lists"),
                *_within("serving.tenants", "refusals", "roster", "source", "verify"),
                *_within("serving.api", "actions", "call", "describe", "elements", "error_answers"),
                *_within("serving.api", "evidence_desk", "fair_line", "json_tensors", "oip"),
                *_within("serving.api", "openapi", "predict", "routes", "schemas", "service"),
                *_within("serving.api", "sealed", "table", "tenancy", "tenant_api"),
                "wardian.inference.generate.parts",
                *_within("serving.api.generate", "bodies", "chain", "rest"),
                *_within("serving.api.zoo", "answers", "dialect", "fitting", "form", "listing"),
                *_within("serving.api.zoo", "prediction", "refusals"),
                *_within("serving.zoo", "answers", "arrays", "columns", "flatbuffer_build"),
                *_within("serving.zoo", "instances", "java_numbers", "results", "tensors", "text"),
                "wardian.serving.sealed_types",
                *_within("serving.grpc", "call", "infer_answer", "infer_call", "infer_request"),
                *_within("serving.grpc", "generated", "methods", "service", "status"),
                *_within("serving.grpc", "stream_call", "wire", "zoo_calls", "zoo_timers"),
                *_within("serving.http", "connection", "messages", "newcomer", "outgoing", "peer"),
                *_within("serving.http", "reader", "server", "sharing", "state", "streamed", "tls"),
                *_within("serving.http.http2", "allowance", "blocks", "connection", "exchange"),
                *_within("serving.http.http2", "fields", "frames", "outbox", "stream", "streams"),
            ),
            distributions=(
                *_BASE_DISTRIBUTIONS,
                "hpack",
                "httptools",
                "numpy",
                "prometheus-client",
                "uvloop",
            ),
            product_id=2,
            environment=_TENSORS,
            heap_bytes=512 * _MIB,
            allowed=(
                *_SETTINGS,
                HostFile(
                    path="traffic.json",
                    reason="the weights of versions for requests that name none: the operator's, "
                    "who can starve a version, and no more",
                ),
                HostFile(
                    path="tenants.json",
                    reason="the tenants list: believed only with the signatures that the measured "
                    "wardian.toml demands, and only while it lasts",
                ),
            ),
            kernel=_COUNTED,
        ),
        "zoo": RoleSpec(
            entry="wardian.roles.zoo",
            modules=(
                *_ADMITTED,
                *_DISPATCHING,
                *_within(
                    "roles", "zoo", "zoo_https", "zoo_keystore", "zoo_password", "zoo_streams"
                ),
                *_within("serving", "dispatch_metrics", "keystore_front"),
                *_within("serving.api", "call", "elements", "error_answers", "json_tensors", "oip"),
                *_within("serving.api", "predict", "service"),
                *_within("serving.api.zoo", "answers", "apart", "dialect", "fitting", "form"),
                *_within("serving.api.zoo", "listing", "prediction", "refusals", "tokens"),
                *_within("serving.http", "connection", "messages", "newcomer", "outgoing", "peer"),
                *_within("serving.http", "reader", "server", "sharing", "state", "streamed", "tls"),
                "wardian.serving.sealed_types",
                "wardian.serving.tenants.refusals",
                "wardian.serving.zoo.answers",
                *_within("serving.zoo", "arrays", "arrow", "arrow_schema", "columns", "filters"),
                *_within("serving.zoo", "flatbuffer", "flatbuffer_build", "instances"),
                *_within("serving.zoo", "java_numbers", "records", "results", "tensors", "text"),
                *_within("serving.zoo.stream", "answering", "commands", "consumer", "counts"),
                *_within("serving.zoo.stream", "inputs", "outgoing", "record_encryption"),
                *_within("serving.zoo.stream", "their_redis", "window"),
                *_within("crypto", "pkcs12", "pkcs12_frame"),
                *_within("crypto", "zoo_formats", "zoo_keys", "zoo_stream"),
            ),
            distributions=(
                *_BASE_DISTRIBUTIONS,
                "httptools",
                "numpy",
                "prometheus-client",
                "uvloop",
            ),
            product_id=5,
            environment=_TENSORS,
            heap_bytes=512 * _MIB,
            allowed=(
                *_SETTINGS,
                HostFile(
                    path="zoo-password",
                    reason="the operator's password of the operator's Redis, in which records lie "
                    "in the clear anyway: the role is UNPROTECTED",
                ),
                HostFile(
                    path="zoo-keystore",
                    reason="the operator's certificate and key, under which the role says it is "
                    "UNPROTECTED; no evidence is about them",
                ),
                HostFile(
                    path="zoo-keystore-password",
                    reason="the operator's password of that file",
                ),
            ),
            kernel=_COUNTED,
        ),
        "worker": RoleSpec(
            entry="wardian.roles.worker",
            modules=(
                *_ADMITTED,
                *_within("crypto", "sealed_file", "sealed_stream"),
                *_within("inference", "attached", "base", "choice", "ir_file", "model"),
                *_within("inference", "onnx_file", "onnxruntime", "openvino", "probe", "timing"),
                *_within("inference.generate", "caches", "choice", "decoder", "generator", "parts"),
                *_within("inference.generate", "sampling", "unfolding"),
                *_within("inference.steps", "image", "image_trial", "numbers", "pipeline"),
                *_within("inference.steps", "tokens", "tokens_trial"),
                *_within("inference.text", "byte_bpe", "spelling", "vocabulary", "wordpiece"),
                *_within("roles", "staying", "worker"),
                *_within(
                    "serving", "batcher", "epochs", "pace", "sealed_content", "sealed_lengths"
                ),
                *_within("serving", "sealed_work", "worker"),
                *_within("serving.queue", "redis_outbox", "redis_worker", "slab_worker", "worker"),
            ),
            distributions=(*_BASE_DISTRIBUTIONS, "numpy", "onnxruntime", "openvino", "pillow"),
            product_id=3,
            environment=_TENSORS,
            heap_bytes=512 * _MIB,
            allowed=(
                *_SETTINGS,
                HostFile(
                    path="model.sealed",
                    reason="a sealed model: opened only where the owner's signed line pins it",
                ),
            ),
            kernel=(
                HostFile(path="/sys/devices/system/cpu/", reason="processors and their caches"),
                HostFile(path="/proc/self/cgroup", reason="how much processor time is granted"),
                HostFile(path="/proc/self/cpuset", reason="on which processors it may run"),
                HostFile(path="/proc/cpuinfo", reason="which instructions the engine may use"),
                HostFile(path="/proc/meminfo", reason="how much memory the engine may plan with"),
            ),
        ),
    }
)
"""By name. The name is part of the measurement, as is everything that the entry says."""
