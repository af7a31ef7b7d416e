"""What `wardian up DIRECTORY` reads: the agreed settings, the models and the self-check.

wardian.toml    what the owners agree on; on a laptop the owner's key is added to it
operator.toml   optional: addresses, ports, replicas
example.toml    the models' files in the clear, and how to check the answers
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian._internal.settings import Name, PositiveInt, Settings, parse, read
from wardian.errors import ConfigError

_NOBODY = re.compile(r"^owners\s*=\s*\[\s*\][^\n]*$", re.MULTILINE)
"""The line that leaves the owners to `wardian up`."""


class ModelFile(Settings, frozen=True, kw_only=True):
    """`[models.NAME]` of `example.toml`: a file in the clear, beside it, that its owner seals.

    With a `key_file` it is sealed already.
    """

    file: str
    key_file: str | None = None
    """Beside it, for its user alone: the key of `file` in hex, as `wardian seal --new-key` writes
    it. The pin lies in `file` with `.pin` behind its name."""
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 1


class SelfCheck(Settings, frozen=True, kw_only=True):
    """`[self_check]`: held-out data, and which answer must equal which expectation."""

    model: Name
    data: str
    input: str
    answer: str
    expected: str
    scale: float = 1.0
    limit: PositiveInt = 10_000


class Example(Settings, frozen=True, kw_only=True):
    """`example.toml`."""

    models: Annotated[dict[Name, ModelFile], msgspec.Meta(min_length=1, max_length=256)]
    self_check: SelfCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An example's directory, read."""

    directory: Path
    example: Example
    agreed_text: str
    operator_raw: bytes

    @classmethod
    def read(cls, directory: Path) -> "Source":
        """Return what stands in `directory`.

        Raises:
            ConfigError: a file is missing or wrong.
        """
        if not directory.is_dir():
            raise ConfigError(f"{directory}: no such directory; try `wardian up examples/digits`")
        path = directory / "example.toml"
        example = parse(read(path), Example, name=str(path))
        operator = directory / "operator.toml"
        raw = read(operator) if operator.exists() else b""
        parse(raw, Operator, name=str(operator))
        for name, model in example.models.items():
            for file in filter(None, (model.file, model.key_file)):
                if not (directory / file).is_file():
                    raise ConfigError(f"{path}: model {name}: no file {directory / file}")
        check = example.self_check
        if check is not None and check.model not in example.models:
            raise ConfigError(f"{path}: [self_check] names model {check.model}, which is not there")
        return cls(
            directory=directory,
            example=example,
            agreed_text=read(directory / "wardian.toml").decode(errors="replace"),
            operator_raw=raw,
        )

    def render_agreed(self, owner: bytes) -> bytes:
        """Return `wardian.toml` with `owner` (32 bytes) as the mesh's one owner.

        Raises:
            ConfigError: the file names owners already: then they sign, not `wardian up`; or it is
                wrong in another way.
        """
        name = str(self.directory / "wardian.toml")
        line = f'owners = ["{owner.hex()}"]   # the owner whom `wardian up` plays'
        text, count = _NOBODY.subn(line, self.agreed_text, count=1)  # no line moves
        if count != 1:
            raise ConfigError(
                f"{name}: `wardian up` plays the owner only where [mesh] says `owners = []`; start "
                "the processes one by one to run with the owners' own manifest"
            )
        raw = text.encode()
        agreed = parse(raw, Agreed, name=name)
        for model in self.example.models:
            if model not in agreed.models:
                raise ConfigError(f"{name}: has no [models.{model}], which example.toml names")
        return raw
