"""Generated answers as a client sees them: what is asked, and parts out of server-sent events."""

from collections.abc import Sequence
from typing import Final

import msgspec

from wardian._internal import wire
from wardian.errors import ConfigError, PeerProtocolError
from wardian.serving.client.connection import ClientConnection
from wardian.serving.client.messages import (
    Answer,
    Call,
    bound_timeout,
    model_target,
    raise_for_status,
)
from wardian.serving.client.sealing import RequestKeys

MAX_EVENT_BYTES: Final = 1024**2
_STATUS: Final = {
    "bad_request": 400, "unknown_credentials": 401, "forbidden": 403, "not_found": 404,
    "too_large": 413, "moved": 421, "busy": 429, "internal": 500, "inference_failed": 500,
    "no_tenants_list": 503, "unavailable": 503, "deadline_exceeded": 504,
}  # fmt: skip
"""What an error within a stream would have been as the answer, by its code."""


class GeneratedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a generated answer.

    Attributes:
        text: whole characters, which follow those of the part before.
        version: of the model; the same in all parts.
        finish_reason: of the last part "stop" or "length", of others None.
        prompt_tokens: of the last part: how many tokens the prompt has.
        generated_tokens: likewise, how many the answer has.
    """

    text: str
    version: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None


class _Event(msgspec.Struct):
    text_output: str | None = None
    model_version: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    code: str = ""


_decode = msgspec.json.Decoder(_Event).decode


def build_generate(
    model: str,
    text: str,
    *,
    version: int | None,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int | None,
    stop: Sequence[str],
    timeout_s: float,
    keys: RequestKeys | None,
) -> Call:
    """Return the call that asks for the continuation of `text` in parts.

    Raises:
        ConfigError: `timeout_s` is not between 0 and a day; or the client seals what it asks.
    """
    if keys is not None:
        raise ConfigError(
            "what is sealed to the workers cannot be answered in parts: use infer, or a client "
            "without `seal`"
        )
    bound_timeout(timeout_s)
    parameters = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": [stop] if isinstance(stop, str) else list(stop),
        "timeout": int(timeout_s * 1e6),
    }
    return Call(
        method=b"POST",
        target=model_target(model, version, "/generate_stream"),
        headers=((b"Content-Type", b"application/json"),),
        body=msgspec.json.encode({"text_input": text, "parameters": parameters}),
    )


class PartReader:
    """Reads the parts of one answer.

    Attributes:
        begun: a part, or a piece of one, has come: asking again would answer twice.
        over: the last part has come, and nothing follows it.
    """

    def __init__(self, protocol: ClientConnection) -> None:
        """Read what comes on the connection of `protocol`."""
        self.begun = self.over = False
        self._protocol = protocol
        self._buffer = b""
        self._finished = False

    def feed(self, data: bytes) -> list[GeneratedPart]:
        """Return the parts that `data` completes.

        Raises:
            WardianError: the answer is an error, or ends in one.
            PeerProtocolError: it is not such an answer, or ends without its last part.
        """
        more, whole = self._protocol.receive_part(data)
        self.begun = self.begun or bool(more)
        *events, self._buffer = (self._buffer + more).split(b"\n\n")
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise PeerProtocolError(f"a part is larger than {MAX_EVENT_BYTES} bytes")
        parts = [self._part(event) for event in events]
        if whole:
            if self._buffer or not self._finished:
                raise PeerProtocolError("the answer ended without its last part")
            self.over = True
        return parts

    def _part(self, event: bytes) -> GeneratedPart:
        name, _, data = event.partition(b": ")
        try:
            told = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise PeerProtocolError("the answer is not one of generated parts") from err
        if name != b"data" or self._finished or (told.text_output is None and not told.code):
            raise PeerProtocolError("the answer is not one of generated parts")
        if told.text_output is None:
            status = _STATUS.get(told.code, 500)
            raise_for_status(Answer(status=status, headers={}, body=data))
            raise PeerProtocolError("the answer ended in an error that is none")
        self._finished = told.finish_reason is not None
        return GeneratedPart(
            text=told.text_output,
            version=wire.printable(told.model_version[:64]),
            finish_reason=told.finish_reason,
            prompt_tokens=told.prompt_tokens,
            generated_tokens=told.generated_tokens,
        )
