"""What a worker says of the version that it serves, and what a client may see of a model."""

from dataclasses import dataclass
from typing import Final

import msgspec

from wardian._internal import wire
from wardian.inference.spec import TensorSpec

_OF_PARTS: Final = (
    "text_input", "sampling_parameters", "text_output", "tokens", "finish_reason", "prompt_tokens",
)  # fmt: skip
"""See `inference.generate.parts`, which is loaded where texts are generated alone."""


class Description(wire.Message, frozen=True, kw_only=True):
    """What a worker answers to the challenge: what it serves, and how.

    Attributes:
        model: the name, as in `wardian.toml`.
        version: as in the mesh manifest.
        engine: name and version.
        max_batch: most rows that one inference takes.
        batchable: requests may be stacked along axis 0.
        inputs: of the model.
        outputs: of the model.
    """

    model: str
    version: int
    engine: str
    max_batch: int
    batchable: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def agrees(self, other: "Description") -> bool:
        """Return whether a client can ask both alike; engine and batch are measured by each."""
        return msgspec.structs.replace(other, engine=self.engine, max_batch=self.max_batch) == self


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model of the mesh as a client may see it.

    Attributes:
        name: as in `wardian.toml`.
        versions: those that a worker has described, ascending; empty before the first.
        inputs: of the version that takes most requests which name none: the newest, unless the
            operator divides them; empty before the first description.
        outputs: likewise.
        engine: likewise, for example "openvino 2026.4.1"; "" before the first.
        ready_versions: those of which a worker is connected that is not stalled with messages that
            nobody waits for.
        unnamed: a version with a worker takes the requests that name none.
    """

    name: str
    versions: tuple[int, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    engine: str
    ready_versions: tuple[int, ...]
    unnamed: bool = True

    @property
    def generates(self) -> bool:
        """Whether it answers a text in parts: such models have tensors of these names."""
        tensors = tuple(spec.name for spec in self.inputs + self.outputs)
        return tensors == _OF_PARTS

    @property
    def ready(self) -> bool:
        """Whether a request is served now that names no version."""
        return self.unnamed and bool(self.ready_versions)

    def serves(self, version: int | None) -> bool:
        """Return whether `version` is served now; None: whichever has its turn."""
        return self.ready if version is None else version in self.ready_versions
