"""One request of a ModelStreamInfer whose model generates: each part is a message.

The prompt is the tensor `text_input`, or `input_ids`. How to answer is in the request's parameters,
or in the JSON of a tensor `sampling_parameters`, as Triton's back ends for language models take it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from wardian.errors import RequestError
from wardian.inference.dtypes import BYTES_DTYPE
from wardian.inference.generate.parts import OUTPUTS, PARAMETERS, TEXT, Part, build_outputs
from wardian.inference.spec import Array, Tensors
from wardian.serving.api.generate.bodies import (
    Parameters,
    Prompt,
    convert_parameters,
    decode_parameters,
    prompt_of,
)
from wardian.serving.api.generate.chain import Chain, Wanted
from wardian.serving.api.service import Service
from wardian.serving.grpc import wire
from wardian.serving.grpc.call import shorter
from wardian.serving.grpc.infer_answer import error_message, final_parameter
from wardian.serving.grpc.infer_call import infer_answer
from wardian.serving.grpc.infer_request import Asked
from wardian.serving.grpc.methods import STREAM_ROUTE
from wardian.serving.grpc.status import Ending, ending_of

if TYPE_CHECKING:
    from wardian.serving.traces import Trace

_IDS: Final = "input_ids"
_FLAG: Final = "stream"
_OF_OTHERS: Final = frozenset(
    {"priority", "sequence_id", "sequence_start", "sequence_end", "binary_data_output"}
)
"""Parameters that clients send which say nothing of the answer, beside those of `triton_`."""
_OUTPUTS: Final = frozenset(spec.name for spec in OUTPUTS)


class PartsCall(Protocol):
    """What is needed of the stream: `stream_call.StreamCall`."""

    service: Service

    def part(self, message: bytes, *, over: "Generated | None" = None) -> None:
        """Send part of an answer; of the one that is `over`, the last."""

    def ended(self, size: int) -> None:
        """A request of `size` bytes is over."""

    def stop(self, ending: Ending) -> None:
        """End the stream."""


class Generated:
    """Sends one answer in parts.

    Attributes:
        size: bytes of the request.
    """

    __slots__ = ("_asked", "_call", "_chain", "_started", "_trace", "_waits", "size")

    def __init__(
        self, call: PartsCall, asked: Asked, *, size: int, started: float, trace: "Trace | None"
    ) -> None:
        """Answer `asked`, which came on the stream of `call`."""
        self._call, self._asked, self.size = call, asked, size
        self._started, self._trace = started, trace
        self._waits = False
        self._chain: Chain | None = None

    def begin(self, *, timeout_s: float | None, connection: int, tls_spki: bytes) -> None:
        """Ask for the first part.

        Raises:
            RequestError, QueueFull: what is asked is not accepted.
        """
        asked = self._asked
        if not _OUTPUTS.issuperset(asked.request.outputs or ()):
            raise RequestError(f"the model has the outputs {', '.join(sorted(_OUTPUTS))}")
        prompt = _prompt(asked)
        chain = Chain(
            self._call.service,
            Wanted(
                model=asked.model,
                version=asked.version,
                text=prompt.text,
                ask=prompt.ask,
                timeout_s=shorter(prompt.timeout_s, timeout_s),
                connection=connection,
                tls_spki=tls_spki,
            ),
            part=self._part,
            failed=self._failed,
            trace=self._trace,
        )
        chain.begin()
        self._chain = chain

    def taken(self) -> None:
        """Ask for the next part, now that the client took the one before."""
        if self._waits and self._chain is not None:
            self._waits = False
            self._chain.go_on()

    def cancel(self) -> None:
        """Ask for no further part; the request is over with the one that is under way."""
        if self._chain is not None:
            self._chain.cancel(self._cancelled)

    def _cancelled(self) -> None:
        self._count(200)
        self._call.ended(self.size)

    def _part(self, part: Part) -> None:
        chain, final = self._chain, bool(part.finish)
        if chain is None:
            raise RequestError("a part came before it was asked for", status=500)
        made = build_outputs(part)
        outputs = {name: made[name] for name in self._asked.request.outputs or made}
        parts = infer_answer(self._asked, outputs, chain.version)
        message = b"".join((*parts, final_parameter(final=final)))
        self._waits = not final
        if final:
            self._count(200)
        self._call.part(wire.element(2, message), over=self if final else None)

    def _failed(self, err: BaseException | None) -> None:
        ending = ending_of(err)
        self._count(ending.http_status)
        self._call.part(error_message(self._asked, ending.message), over=self)
        if ending.close:
            self._call.stop(ending)

    def _count(self, status: int) -> None:
        service, model = self._call.service, self._asked.model
        service.answered(STREAM_ROUTE, model, status, self._started, self._trace)


def _prompt(asked: Asked) -> Prompt:
    """Return the prompt of `asked`, and how to answer.

    Raises:
        RequestError: 400.
    """
    inputs = dict(asked.request.inputs)
    inputs.pop(_FLAG, None)
    given = _parameters(asked.parameters, inputs.pop(PARAMETERS, None))
    text, numbers = inputs.pop(TEXT, None), inputs.pop(_IDS, None)
    _refuse_others(inputs)
    return prompt_of(
        None if text is None else _text(text, TEXT),
        given,
        input_ids=None if numbers is None else _numbers(numbers),
        request_id=asked.request.id,
    )


def _parameters(given: Mapping[str, object], tensor: Array | None) -> Parameters:
    named = {
        name: value
        for name, value in given.items()
        if name not in _OF_OTHERS and not name.startswith("triton_")
    }
    if tensor is None:
        return convert_parameters(named)
    if named.keys() - {"timeout"}:
        raise RequestError(f"{PARAMETERS} is given beside parameters: expected one of the two")
    made = decode_parameters(_text(tensor, PARAMETERS).encode())
    if "timeout" in named:
        return msgspec.structs.replace(made, timeout=convert_parameters(named).timeout)
    return made


def _refuse_others(inputs: Tensors) -> None:
    if inputs:
        raise RequestError(
            f"an input is not the model's; expected: {TEXT!r} BYTES [1] or {_IDS!r} INT64 [L], "
            f"and {PARAMETERS!r} BYTES [1] or parameters"
        )


def _text(array: Array, name: str) -> str:
    if array.dtype is not BYTES_DTYPE or array.size != 1:
        raise RequestError(f"input {name!r} BYTES [1] was expected")
    try:
        return bytes(array.reshape(-1)[0]).decode()
    except UnicodeDecodeError as err:
        raise RequestError(f"input {name!r}: not UTF-8") from err


def _numbers(array: Array) -> list[int]:
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or not array.size:
        raise RequestError(f"input {_IDS!r} INT64 [L] was expected")
    numbers: list[int] = array.reshape(-1).tolist()
    if min(numbers) < 0 or max(numbers) >= 2**31 or len(numbers) > 32_768:
        raise RequestError(f"input {_IDS!r}: at most 32768 tokens, each 0 or more")
    return numbers
