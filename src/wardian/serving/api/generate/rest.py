"""The generate extension over REST: an answer as one body, or as server-sent events."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from typing_extensions import override

from wardian.errors import RequestError
from wardian.inference.generate.parts import Part
from wardian.serving.api.call import Call
from wardian.serving.api.error_answers import answer_error
from wardian.serving.api.generate.bodies import (
    EVENT_STREAM,
    Prompt,
    decode_prompt,
    encode_part,
    event,
)
from wardian.serving.api.generate.chain import Chain, Wanted
from wardian.serving.http.messages import NO_STORE, HttpResponse, Source

if TYPE_CHECKING:
    from wardian.serving.http.streamed import Outlet


class Whole:
    """Collects the parts of one answer, and answers once."""

    def __init__(self, call: Call, prompt: Prompt) -> None:
        """Answer `call`, which asks for `prompt`."""
        self._call, self._prompt = call, prompt
        self._text: list[bytes] = []
        self._chain = _chain(call, prompt, self)
        self._chain.begin()

    def part(self, part: Part) -> None:
        """Take a part, and ask for the next."""
        self._text.append(part.text)
        if not part.finish:
            self._chain.go_on()
            return
        body = encode_part(self._call.model, self._prompt, self._chain, part, b"".join(self._text))
        self._call.end(HttpResponse(body=(body,), headers=NO_STORE))

    def failed(self, err: BaseException | None) -> None:
        """Answer that there is no answer, and why."""
        self._call.end(answer_error(err))


class Events(Source):
    """Hands the parts of one answer on as they come, as server-sent events.

    Until the first is there nothing is sent, so that what is refused has a status of its own.
    """

    def __init__(self, call: Call, prompt: Prompt) -> None:
        """Answer `call`, which asks for `prompt`."""
        self._call, self._prompt = call, prompt
        self._outlet: Outlet | None = None
        self._first: Part | None = None
        self._waits = self._over = False
        self._chain = _chain(call, prompt, self)
        self._chain.begin()

    def part(self, part: Part) -> None:
        """Send a part."""
        if self._outlet is None:
            self._first = part
            self._call.respond(
                HttpResponse(content_type=EVENT_STREAM, headers=NO_STORE, source=self)
            )
        else:
            self._send(self._outlet, part)

    def failed(self, err: BaseException | None) -> None:
        """Send an error: as the answer, or as the last event of one that has begun."""
        answer = answer_error(err)
        if self._outlet is None:
            self._call.end(answer)
            return
        self._over = True
        self._outlet.send(event(b"".join(answer.body)))
        self._outlet.end()
        self._call.count(answer.status)

    @override
    def begin(self, outlet: "Outlet") -> None:
        """Send the part that came first."""
        self._outlet = outlet
        first, self._first = self._first, None
        if first is not None:
            self._send(outlet, first)

    @override
    def taken(self) -> None:
        """Ask for the next part, if it was put off."""
        if self._waits and not self._over:
            self._waits = False
            self._chain.go_on()

    @override
    def gone(self, rest: Callable[[], None]) -> None:
        """Let the parts be that were not asked for yet."""
        if self._over:
            rest()
            return
        self._over = True
        self._chain.cancel(rest)
        self._call.count(200)

    def _send(self, outlet: "Outlet", part: Part) -> None:
        free = True
        if part.text or part.finish:  # else the character is not whole yet
            data = encode_part(self._call.model, self._prompt, self._chain, part, part.text)
            free = outlet.send(event(data))
        if self._over:
            return
        if part.finish:
            self._over = True
            outlet.end()
            self._call.count(200)
        elif free:
            self._chain.go_on()
        else:
            self._waits = True


def prompt_of_call(call: Call) -> Prompt:
    """Return what `call` asks for.

    Raises:
        RequestError: 404 no such model; 400 it does not generate, or the body is wrong; 503 nobody
            serves it yet.
    """
    info = call.service.model(call.model, call.version)
    if not info.inputs:
        raise RequestError(f"no worker serves model {info.name!r} yet", status=503)
    if not info.generates:
        raise RequestError(f"model {info.name!r} does not generate text: use /infer")
    return decode_prompt(call.request.body)


def _chain(call: Call, prompt: Prompt, receiver: Whole | Events) -> Chain:
    wanted = Wanted(
        model=call.model,
        version=call.version,
        text=prompt.text,
        ask=prompt.ask,
        timeout_s=prompt.timeout_s,
        connection=call.request.connection,
        tls_spki=call.request.tls_spki,
    )
    return Chain(call.service, wanted, part=receiver.part, failed=receiver.failed, trace=call.trace)
