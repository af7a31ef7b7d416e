"""What a person asks for when Cluster Serving's files are taken over, beside those files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wardian.crypto.zoo_keys import ZooForm
from wardian.inference.spec import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All of it.

    Attributes:
        config: a `config.yaml`; paths in both YAML files begin at its directory.
        out: the directory that is written to.
        servables: a `servables.yaml`, if there is one.
        flags: of an HTTP front end, without a password; paths in them begin where this runs.
        shapes: of the inputs of the job's model, for TorchScript.
        threads: of an inference, in place of what the file says.
        stream: whether the Redis stream of the job is served.
        http: whether the paths of its HTTP front ends are.
        redis_ca: the CA of their Redis, PEM.
        redis_user: ACL user there; "": the default one.
        redis_password: a file, its first line is the password there.
        keystore_password: a file, its first line is the password of `httpsKeyStorePath`.
        form: how encrypted models are encrypted; None: they are left where they are.
        clear: which of "xml" and "bin" of an encrypted model lies in the clear.
        force: whether files that are there are overwritten.
        reuse: whether a directory that was made of the same is taken as it is.
    """

    config: Path
    out: Path
    servables: Path | None = None
    flags: Sequence[str] = ()
    shapes: Sequence[TensorSpec] = ()
    threads: int | None = None
    stream: bool = False
    http: bool = False
    redis_ca: Path | None = None
    redis_user: str = ""
    redis_password: Path | None = None
    keystore_password: Path | None = None
    form: ZooForm | None = None
    clear: Sequence[str] = ()
    force: bool = False
    reuse: bool = False
