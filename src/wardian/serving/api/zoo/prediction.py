"""One request of this dialect: its instances to inferences, and their outcomes to one answer.

Every instance was a record of its own there. Here those of one shape are the rows of one inference
wherever the model takes rows, and the others are an inference each. All are handed over at once,
and the answer is sent when the last has its outcome.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from wardian.errors import FormatError, JobFailed, RequestError, WardianError
from wardian.inference.spec import Array
from wardian.serving.api.call import VERSION_HEADER
from wardian.serving.api.json_tensors import MAX_LISTS
from wardian.serving.api.service import Done, Service
from wardian.serving.api.zoo.answers import bound_numbers, text_response
from wardian.serving.api.zoo.fitting import Fitted, Group, expect_room, fit, group
from wardian.serving.api.zoo.form import Form, Origin
from wardian.serving.api.zoo.refusals import Unreadable, answer_refusal
from wardian.serving.catalog import ModelInfo
from wardian.serving.http.messages import HttpResponse
from wardian.serving.zoo.columns import Columns
from wardian.serving.zoo.instances import parse_instances

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome

MAX_BODY_BYTES: Final = 64 * 1024**2
"""`limits.max_body_bytes` is there before. Above some megabytes it can only be images, or texts."""
MAX_GROUPS: Final = 64
"""Inferences of one request."""
_BOUNDS: Final = (
    ("objects", b"{", 16_384),
    ("columns", b":", 16_384),
    ("lists", b"[", MAX_LISTS),
    ("numbers and texts", b",", 262_144),
)
"""Reading so many takes about 0.1 s, during which nobody else is served."""


class Asking(Protocol):
    """What is needed of a call: `call.Call`, or one of gRPC.

    Attributes:
        service: models and inferences, as its caller may have them.
        model: its name.
        version: as text; "" for whichever has its turn.
    """

    service: Service
    model: str
    version: str

    def begin_inference(self) -> None:
        """Trace the call if its client does."""

    def traced(self, done: Done) -> Done:
        """Return what to hand over in the place of `done`."""

    def end(self, response: HttpResponse) -> None:
        """Send the answer and count it."""


def predict(
    call: Asking,
    form: Form,
    body: bytes | bytearray,
    *,
    images: frozenset[str],
    connection: int,
    timeout_s: float | None = None,
) -> HttpResponse | None:
    """Answer the instances in `body`, or begin to.

    Args:
        call: whose model and version are set.
        form: of the answer.
        body: `{"instances": [...]}`.
        images: inputs of the model that take the bytes of a picture.
        connection: that the call came on.
        timeout_s: the client's own deadline, or None.

    Raises:
        RequestError, QueueError: nothing is under way.
    """
    call.begin_inference()
    info = call.service.model(call.model, call.version)
    if not info.inputs:
        raise RequestError(f"no worker serves model {info.name!r} yet", status=503)
    instances = _read(body)
    if form.strict and form.origin is Origin.SINGLE:
        del instances[1:]  # the others were never looked at
    expect_room(instances)
    fitted = [_fitted(instance, info, form, images) for instance in instances]
    groups = group(fitted, info, images=images)
    if len(groups) > MAX_GROUPS:
        raise RequestError(
            f"{len(groups)} instances that cannot be rows of one inference, at most {MAX_GROUPS} "
            "are accepted; send instances of one shape",
            status=413,
        )
    if not groups:  # else each inference is accounted for
        call.service.look()
    submit = partial(
        call.service.submit,
        model=call.model,
        version=call.version,
        outputs=None,
        timeout_s=timeout_s,
        connection=connection,
    )
    return _Prediction(call, form, len(instances), submit=submit).begin(groups)


def _read(body: bytes | bytearray) -> list[Columns]:
    for what, mark, most in _BOUNDS:
        if body.count(mark) > most:
            raise Unreadable(f"more than {most} {what} in one request", status=413)
    try:
        return parse_instances(bytes(body), max_bytes=MAX_BODY_BYTES)
    except FormatError as err:
        raise Unreadable(str(err)) from err


def _fitted(
    instance: Columns, info: ModelInfo, form: Form, images: frozenset[str]
) -> Fitted | None:
    """Return `instance` as inputs; None: in its place the answer says that there is no number."""
    try:
        return fit(instance, info.inputs, images=images)
    except RequestError as err:
        if _is_nan(err, form):
            return None
        raise


def _is_nan(err: BaseException | None, form: Form) -> bool:
    """Return whether `err` was answered with NaN: inputs that do not fit, and what a model says."""
    return form.strict and (
        isinstance(err, JobFailed) or (isinstance(err, RequestError) and err.status == 400)
    )


class _Prediction:
    """Collects what became of the instances of one request; ends with one answer."""

    def __init__(
        self, call: Asking, form: Form, instances: int, *, submit: Callable[..., None]
    ) -> None:
        """Answer `call`, which has so many `instances`; none of them has a prediction yet.

        `submit` is its service's, told everything but `inputs` and `done`.
        """
        self._call, self._form, self._submit = call, form, submit
        self._predictions = [form.nan] * instances
        self._versions: set[int] = set()
        self._numbers = 0
        self._error: BaseException | None = None
        self._open = 0

    def begin(self, groups: list[Group]) -> HttpResponse | None:
        """Hand the inferences over; return the answer if none of them is under way.

        Raises:
            RequestError, QueueError: why there is none.
        """
        self._open = 1  # this very method, so that none that is over at once ends the request
        for number, each in enumerate(groups):
            done = partial(self._done, each)  # a trace follows the first of them
            self._open += 1
            try:
                self._submit(inputs=each.inputs, done=done if number else self._call.traced(done))
            except WardianError as err:
                self._open -= 1
                if not _is_nan(err, self._form):
                    self._error = err
                    break
        self._open -= 1
        return None if self._open else self._response()

    def _done(self, each: Group, outcome: "Outcome") -> None:
        self._call.service.over()
        self._open -= 1
        try:
            self._take(each, outcome)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self._error = self._error or err
        if not self._open:
            self._call.end(self._response())

    def _take(self, each: Group, outcome: "Outcome") -> None:
        """Write the predictions of a group at once: its arrays are not there later.

        Raises:
            WardianError: there are none.
        """
        outputs = outcome.outputs
        if outputs is None:
            if outcome.error is not None and not _is_nan(outcome.error, self._form):
                raise outcome.error
            return
        self._versions.add(outcome.version)
        arrays = list(outputs.values())
        self._numbers += bound_numbers(arrays, most=self._form.most_numbers - self._numbers)
        for row, place in enumerate(each.instances):
            mine = (
                arrays
                if each.own_axis
                else [_row(array, row, len(each.instances)) for array in arrays]
            )
            self._predictions[place] = self._form.encode(mine)

    def _response(self) -> HttpResponse:
        err = self._error
        if err is not None:
            return answer_refusal(err, self._form)
        headers = b""
        if len(self._versions) == 1:
            headers = b"%b: %d\r\n" % (VERSION_HEADER, next(iter(self._versions)))
        return text_response(self._form.write(self._predictions), headers=headers)


def _row(array: Array, row: int, rows: int) -> Array:
    """Return what `array`, an output of so many `rows`, says of an instance without a batch axis.

    What is not by rows is whole; then there is one instance alone.
    """
    return array[row, ...] if array.shape[:1] == (rows,) else array
