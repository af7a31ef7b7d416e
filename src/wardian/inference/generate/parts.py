"""What a part of a generated answer is asked with, and what comes back.

A part says everything that it depends on: the prompt, the tokens before it, how the next ones are
drawn. So whichever worker gets it gives the same, and one that dies costs a part (ADR 0029).

The tensors are ordinary ones, of names that others use too (`text_input`, `text_output`,
`sampling_parameters`), so that nothing on the way knows of parts but the two ends.
"""

from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np

from wardian.errors import FormatError, RequestError
from wardian.inference.dtypes import BYTES, bytes_array
from wardian.inference.spec import FREE, Tensors, TensorSpec

TEXT: Final = "text_input"
PARAMETERS: Final = "sampling_parameters"
TEXT_OUTPUT: Final = "text_output"
TOKENS: Final = "tokens"
FINISH: Final = "finish_reason"
PROMPT_TOKENS: Final = "prompt_tokens"
INPUTS: Final = (
    TensorSpec(name=TEXT, dtype=BYTES, shape=(1,)),
    TensorSpec(name=PARAMETERS, dtype=BYTES, shape=(1,)),
)
OUTPUTS: Final = (
    TensorSpec(name=TEXT_OUTPUT, dtype=BYTES, shape=(1,)),
    TensorSpec(name=TOKENS, dtype="INT64", shape=(FREE,)),
    TensorSpec(name=FINISH, dtype=BYTES, shape=(1,)),
    TensorSpec(name=PROMPT_TOKENS, dtype="INT64", shape=(1,)),
)

MORE: Final = ""
STOP: Final = "stop"
LENGTH: Final = "length"
TOO_LONG: Final = "prompt_too_long"
NO_PROMPT: Final = "no_prompt"
FINISHES: Final = frozenset({MORE, STOP, LENGTH, TOO_LONG, NO_PROMPT})
"""Why an answer is over: not yet; an end token or a stop text came; as long as it may be; and the
two that say why there is none."""

MOST_TOKENS: Final = 32_768
"""Of one answer, and of one prompt, whatever a model's owner allows."""
MAX_ASK_BYTES: Final = 1024**2
MAX_STOPS: Final = 4
MAX_STOP_CHARS: Final = 128
MAX_SEED: Final = 2**63 - 1

_Token = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Tokens = Annotated[list[_Token], msgspec.Meta(max_length=MOST_TOKENS)]
_Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=100)]
TopK = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
TopP = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEED)]
Stops = Annotated[tuple[_Stop, ...], msgspec.Meta(max_length=MAX_STOPS)]


class Ask(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """How to go on; JSON in `sampling_parameters`.

    Attributes:
        max_tokens: of the whole answer.
        temperature: 0 takes the likeliest token each time.
        top_k: only so many of the likeliest are drawn from; 0: all.
        top_p: only the likeliest are drawn from that together have this probability.
        seed: with the position it settles each draw.
        stop: texts before which the answer ends.
        input_ids: the prompt in numbers, in place of a text.
        limit: most tokens of this part; None: as many as there may be.
        tokens: of the answer, before this part.
        stream: 32 hex digits by which the worker may know what it kept of the part before.
    """

    max_tokens: Count = 16
    temperature: Temperature = 0.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    seed: Seed = 0
    stop: Stops = ()
    input_ids: _Tokens | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)] | None = None
    tokens: _Tokens = []
    stream: Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{32})?\Z")] = ""


class Part(NamedTuple):
    """A part of an answer.

    Attributes:
        text: in UTF-8, whole characters.
        tokens: that it has; their text may come with a later part.
        finish: one of `FINISHES`.
        prompt_tokens: of the prompt.
    """

    text: bytes
    tokens: list[int]
    finish: str
    prompt_tokens: int


_decode = msgspec.json.Decoder(Ask).decode
_encode = msgspec.json.Encoder().encode


def parse_ask(raw: bytes) -> Ask:
    """Return what `raw` asks for.

    Raises:
        RequestError: 400; it is not of that form.
    """
    if len(raw) > MAX_ASK_BYTES:
        raise RequestError(f"{PARAMETERS}: more than {MAX_ASK_BYTES} bytes", status=413)
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise RequestError(f"{PARAMETERS}: {err}"[:300]) from err


def build_inputs(text: bytes, ask: Ask) -> Tensors:
    """Return the inputs that ask for the part `ask` of the answer to `text`."""
    return {TEXT: bytes_array((text,), (1,)), PARAMETERS: bytes_array((_encode(ask),), (1,))}


def build_outputs(part: Part) -> Tensors:
    """Return `part` as a model's outputs."""
    return {
        TEXT_OUTPUT: bytes_array((part.text,), (1,)),
        TOKENS: np.array(part.tokens, "<i8"),
        FINISH: bytes_array((part.finish.encode(),), (1,)),
        PROMPT_TOKENS: np.array([part.prompt_tokens], "<i8"),
    }


def parse_outputs(outputs: Tensors) -> Part:
    """Return the part in `outputs`.

    Raises:
        FormatError: they are not those of a model that generates.
    """
    try:
        part = Part(
            bytes(outputs[TEXT_OUTPUT][0]),
            outputs[TOKENS].tolist(),
            bytes(outputs[FINISH][0]).decode("ascii"),
            int(outputs[PROMPT_TOKENS][0]),
        )
    except (KeyError, IndexError, TypeError, ValueError) as err:
        raise FormatError("the answer is not a part of a generated one") from err
    if part.finish not in FINISHES or len(part.tokens) > MOST_TOKENS:
        raise FormatError("the answer is not a part of a generated one")
    return part


def generates(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> bool:
    """Return whether a model of these tensors answers in parts."""
    return inputs == INPUTS and outputs == OUTPUTS
