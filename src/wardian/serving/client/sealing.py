"""Sealing past the front end: the request keys that a client accepts, and calls under them.

A key is accepted when the mesh CA's key states it, of the very mesh, manifest and model that the
client's policy accepted on the connection that it came on. So a front end that shows a key of its
own, of another model or of another manifest gets nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

import numpy.typing as npt

from wardian._internal.clock import UnixTime, unix_time
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.release.request_keys import parse_request_key, verify_request_key
from wardian.crypto.sealed_request import RequestPlace, SentRequest, seal_request
from wardian.errors import (
    ConfigError,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    RequestKeyInvalid,
)
from wardian.inference.spec import Tensors
from wardian.serving.client.messages import (
    Answer,
    Call,
    bound_timeout,
    little_endian,
    model_target,
    raise_for_status,
)
from wardian.serving.sealed_content import decode_ended, encode_asked
from wardian.serving.sealed_types import ANSWER_TYPE, REQUEST_TYPE, TIMEOUT_HEADER

Seal: TypeAlias = Literal["worker"]
"""Who alone can open what a client sends, beside what the connection's TLS protects."""
MAX_SEALINGS: Final = 3
"""How often one call is sealed: again when its epoch was over before a worker came to it."""
MAX_BEHIND: Final = 1
"""Epochs by which a key may be behind the newest that this client saw: front ends behind one
balancer hear of an epoch one after the other."""


@dataclass(frozen=True, slots=True)
class AcceptedKey:
    """A request key that was verified. Only `RequestKeys.accept` makes one."""

    place: RequestPlace
    public: bytes
    not_after: int


class RequestKeys:
    """The request keys of one client, by model. Safe to use from several threads."""

    def __init__(self, *, now: UnixTime = unix_time) -> None:
        """Know none; `now` tells Unix seconds."""
        self._now = now
        self._keys: dict[str, AcceptedKey] = {}
        self._newest: dict[tuple[bytes, str], int] = {}

    def find(self, model: str) -> AcceptedKey | None:
        """Return the key of `model`, if one was accepted and its time is not over."""
        key = self._keys.get(model)
        return key if key is not None and self._now() <= key.not_after else None

    def forget(self, key: AcceptedKey) -> None:
        """Do not use `key` any more."""
        if self._keys.get(key.place.model) is key:
            self._keys.pop(key.place.model, None)

    def accept(self, model: str, answer: Answer) -> AcceptedKey:
        """Return the key of `model` in the answer to `key_call`.

        Raises:
            RequestKeyInvalid: the front end shows something else than what the broker of the mesh
                states of this model, under this manifest, now.
            WardianError: the answer is an error; see `raise_for_status`.
        """
        raise_for_status(answer)
        frontend = answer.frontend
        if frontend is None:
            raise LocalProtocolError("a request key of a front end that was not verified")
        ca_spki = verify_ca_certificate(frontend.mesh_ca)
        try:
            stated = parse_request_key(answer.body)
        except FormatError as err:
            raise RequestKeyInvalid(f"the front end shows no request key: {err}") from err
        mesh = frontend.manifest.mesh
        verify_request_key(
            stated,
            ca_spki=ca_spki,
            mesh=mesh,
            model=model,
            manifest_digest=frontend.manifest_digest,
            now=self._now(),
        )
        newest = self._newest.get((ca_spki, model), 0)
        if stated.epoch < newest - MAX_BEHIND:
            raise RequestKeyInvalid("the front end shows a request key of an old epoch")
        self._newest[ca_spki, model] = max(newest, stated.epoch)
        place = RequestPlace(mesh, model, frontend.manifest_digest, stated.epoch)
        key = self._keys[model] = AcceptedKey(place, stated.public, stated.not_after)
        return key


def request_keys(seal: Seal | None) -> RequestKeys | None:
    """Return where a client that seals keeps its request keys; None for one that does not.

    Raises:
        ConfigError: `seal` is neither None nor "worker".
    """
    if seal not in (None, "worker"):
        raise ConfigError('seal: "worker", or None for requests that the front end reads')
    return None if seal is None else RequestKeys()


def key_call(model: str) -> Call:
    """Return the call that asks for the request key of `model`."""
    return Call(target=f"/v1/models/{quote(model, safe='')}/request-key".encode("ascii"))


class SealedCall:
    """One inference, sealed to the workers of its model, and what opens its answer."""

    __slots__ = ("_sent", "call")

    def __init__(self, call: Call, sent: SentRequest) -> None:
        """Made by `build_sealed` alone."""
        self.call = call
        self._sent = sent

    def open(self, answer: Answer) -> Tensors:
        """Return the arrays in the answer; they are read-only.

        Raises:
            AuthenticationFailed: no worker answered this request so.
            RequestKeyOver: the key was not in force any more: fetch it, and seal again.
            WardianError: an error of the front end, or, sealed, of the worker.
        """
        raise_for_status(answer)
        if answer.headers.get(b"content-type") != ANSWER_TYPE:
            raise PeerProtocolError("the answer to a sealed request is not sealed")
        try:
            plaintext = self._sent.open_answer(answer.body)
        except FormatError as err:
            raise PeerProtocolError(str(err)) from err
        return decode_ended(plaintext)


def build_sealed(
    model: str,
    inputs: Mapping[str, npt.ArrayLike],
    *,
    key: AcceptedKey,
    version: int | None,
    outputs: tuple[str, ...] | None,
    timeout_s: float,
    pad: bool,
) -> SealedCall:
    """Return the call that sends `inputs` sealed to `key`.

    What stays readable: the model and the version in the path, the deadline, and the length, which
    `pad` rounds up to one of few.

    Raises:
        FormatError: an array has a type that the protocol has no name for.
        ConfigError: `timeout_s` is not between 0 and a day.
    """
    bound_timeout(timeout_s)
    arrays = {name: little_endian(given) for name, given in inputs.items()}
    plaintext = encode_asked(arrays, version=version or 0, outputs=outputs, pad=pad)
    sent = seal_request(key.public, plaintext, place=key.place)
    call = Call(
        method=b"POST",
        target=model_target(model, version, "/infer"),
        headers=(
            (b"Content-Type", REQUEST_TYPE),
            (TIMEOUT_HEADER, b"%d" % max(1, int(timeout_s * 1000))),
        ),
        body=sent.body,
    )
    return SealedCall(call, sent)
