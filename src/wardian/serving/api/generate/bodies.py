"""Bodies of the generate extension: a prompt and its parameters to what is asked, parts to JSON.

Source: Triton Inference Server, "Generate Extension"; server-sent events as in HTML, section 9.2.
"""

from typing import Annotated, Final

import msgspec

from wardian.errors import RequestError
from wardian.inference.generate.parts import (
    Ask,
    Count,
    Part,
    Seed,
    Stops,
    Temperature,
    TopK,
    TopP,
)
from wardian.serving.api.generate.chain import Chain, drawn_seed
from wardian.serving.api.json_tensors import bound_json, explain_json
from wardian.serving.api.oip import MAX_ID_CHARS, parse_timeout

EVENT_STREAM: Final = b"text/event-stream"


class Parameters(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """How to answer; nothing else is known, since what was ignored would change the answer.

    Attributes:
        max_tokens: of the answer.
        temperature: 0 takes the likeliest token each time.
        top_k: only so many of the likeliest are drawn from; 0: all.
        top_p: only the likeliest are drawn from that together have this probability.
        seed: the same one gives the same answer; by default another each time.
        stop: a text, or several, before which the answer ends.
        timeout: microseconds for the whole answer, or a text of them.
        stream: without effect: the path says it.
    """

    max_tokens: Count = 16
    temperature: Temperature = 0.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    seed: Seed | None = None
    stop: str | Stops | None = None
    timeout: int | str | None = None
    stream: bool | None = None

    def ask(self, *, input_ids: list[int] | None) -> Ask:
        """Return what a worker is asked.

        Raises:
            RequestError: 400.
        """
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        if "" in stop:
            raise RequestError("stop: a text of no characters")
        return Ask(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=drawn_seed() if self.seed is None else self.seed,
            stop=stop,
            input_ids=input_ids,
        )


_Ids = Annotated[
    list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]],
    msgspec.Meta(min_length=1, max_length=32_768),
]


class _Body(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    text_input: str | None = None
    input_ids: _Ids | None = None
    id: Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)] | None = None
    parameters: Parameters = Parameters()


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """A decoded request.

    Attributes:
        id: the client's own, echoed; None if it gave none.
        text: the prompt; empty where `ask` has it in numbers.
        ask: how to answer.
        timeout_s: for the whole answer, or None.
    """

    id: str | None
    text: bytes
    ask: Ask
    timeout_s: float | None


class _Answer(msgspec.Struct, gc=False, omit_defaults=True):
    model_name: str
    model_version: str
    text_output: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    id: str | None = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_parameters = msgspec.json.Decoder(Parameters).decode
_encode = msgspec.json.Encoder().encode


def decode_prompt(body: bytes | bytearray) -> Prompt:
    """Return the request in `body`.

    Raises:
        RequestError: 400, or 413 for too much JSON; says what was expected.
    """
    bound_json(body)
    try:
        decoded = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        reason = explain_json(err, body)
        raise RequestError(
            f'{reason}; expected {{"text_input": "...", "parameters": {{}}}}'
        ) from err
    return prompt_of(
        decoded.text_input, decoded.parameters, input_ids=decoded.input_ids, request_id=decoded.id
    )


def decode_parameters(raw: bytes) -> Parameters:
    """Return the parameters in the JSON object `raw`.

    Raises:
        RequestError: 400; says what was expected.
    """
    bound_json(raw)
    try:
        return _decode_parameters(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise RequestError(f"sampling_parameters: {explain_json(err, raw)}") from err


def convert_parameters(given: dict[str, object]) -> Parameters:
    """Return the parameters in `given`, by name.

    Raises:
        RequestError: 400; says what was expected.
    """
    try:
        return msgspec.convert(given, Parameters)
    except msgspec.ValidationError as err:
        raise RequestError(f"parameters: {err}"[:300]) from err


def prompt_of(
    text: str | None,
    parameters: Parameters,
    *,
    input_ids: list[int] | None = None,
    request_id: str | None = None,
) -> Prompt:
    """Return the request for the continuation of `text`, or of `input_ids`.

    Raises:
        RequestError: 400.
    """
    if (text is None) == (input_ids is None):
        raise RequestError("exactly one of text_input and input_ids is expected")
    try:
        raw = (text or "").encode()
    except UnicodeEncodeError as err:  # half of a pair of surrogates, by an escape of JSON
        raise RequestError("text_input: a character that there is not") from err
    timeout_s = parse_timeout(parameters.timeout)
    return Prompt(request_id, raw, parameters.ask(input_ids=input_ids), timeout_s)


def encode_part(model: str, prompt: Prompt, chain: Chain, part: Part, text: bytes) -> bytes:
    """Return as JSON the answer that has `text`, or a part of it; `part` is its last, or that."""
    over = part.finish or None
    return _encode(
        _Answer(
            model_name=model,
            model_version=str(chain.version),
            text_output=text.decode(),
            finish_reason=over,
            prompt_tokens=part.prompt_tokens if over else None,
            generated_tokens=chain.generated if over else None,
            id=prompt.id,
        )
    )


def event(data: bytes) -> bytes:
    """Return `data`, JSON of one line, as a server-sent event."""
    return b"data: %b\n\n" % data
