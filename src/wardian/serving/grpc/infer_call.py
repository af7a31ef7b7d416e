"""ModelInfer: one inference, in the form of the Open Inference Protocol."""

from functools import partial
from typing import TYPE_CHECKING

from wardian.inference.spec import Tensors
from wardian.serving.grpc.call import PREFIX, UnaryCall, shorter
from wardian.serving.grpc.infer_answer import build_infer
from wardian.serving.grpc.infer_request import Asked, parse_infer
from wardian.serving.http.messages import Buffer

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome


def infer(call: UnaryCall, source: bytes | bytearray) -> None:
    """Hand over what `source` asks for; `call` ends with its outcome.

    Raises:
        FormatError, RequestError, QueueFull: nothing is under way.
    """
    call.begin_inference()
    asked = parse_infer(source, PREFIX.size, len(source))
    call.model = asked.model
    call.service.submit(
        model=asked.model,
        version=asked.version,
        inputs=asked.request.inputs,
        outputs=asked.request.outputs,
        timeout_s=shorter(asked.request.timeout_s, call.time_left()),
        connection=call.stream.carrier.number,
        done=call.traced(partial(_done, call, asked)),
    )


def infer_answer(asked: Asked, outputs: Tensors, version: int) -> list[Buffer]:
    """Return the answer to `asked`, which `version` of the model gave, in parts.

    Raises:
        RequestError: 413; more numbers than go out typed.
    """
    return build_infer(
        model=asked.model, version=str(version), request=asked.request, outputs=outputs
    )


def _done(call: UnaryCall, asked: Asked, outcome: "Outcome") -> None:
    call.service.over()
    try:
        if outcome.outputs is None:
            call.fail(outcome.error)
        else:
            call.answer(infer_answer(asked, outcome.outputs, outcome.version))
    except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
        call.fail(err)
