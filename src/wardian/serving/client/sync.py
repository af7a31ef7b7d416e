"""The synchronous client: `connect(url, policy=...)`, then `infer`.

    with connect("https://localhost:8443", policy="client-policy.toml") as client:
        answer = client.infer("digits", {"pixels": images})

The other end is verified before anything is sent to it, on every connection. One client may be
used by many threads; each call has a connection to itself.
"""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy.typing as npt

from wardian._internal.clock import monotonic
from wardian.crypto.secret import Secret
from wardian.errors import ConnectionLost, RequestKeyOver
from wardian.inference.spec import Tensors
from wardian.serving.client.attempts import Attempts
from wardian.serving.client.connection import Destination
from wardian.serving.client.credentials import ClientCertificate, load_api_key
from wardian.serving.client.generating import GeneratedPart, PartReader, build_generate
from wardian.serving.client.links import Link, Links, seconds_until
from wardian.serving.client.messages import (
    Answer,
    Call,
    bound_timeout,
    build_infer,
    model_target,
    parse_infer,
    parse_json,
)
from wardian.serving.client.origin import parse_origin
from wardian.serving.client.policy import ClientPolicy, VerifiedFrontend, load_client_policy
from wardian.serving.client.sealing import (
    MAX_SEALINGS,
    RequestKeys,
    Seal,
    build_sealed,
    key_call,
    request_keys,
)

DEFAULT_TIMEOUT_S: Final = 30.0


def connect(
    url: str,
    *,
    policy: ClientPolicy | Path | str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    seal: Seal | None = None,
    pad: bool = True,
    api_key: Secret | Path | None = None,
    certificate: ClientCertificate | None = None,
) -> "Client":
    """Return a client of the front end at `url`, which `policy` has accepted.

    Args:
        url: `https://HOST[:PORT]`.
        policy: what the front end and its mesh must be, or the file that says it.
        timeout_s: for connecting, and for each call that does not say otherwise.
        seal: "worker": inferences are sealed to the model's workers, so that the front end too
            sees only model, version, deadline, sizes and times. By default it sees them in clear,
            inside its enclave.
        pad: whether what is sealed is padded to one of few lengths; answers always are.
        api_key: of a tenant of the mesh, or the file that holds it, which is for its user alone. It
            is sent with requests, to nobody who was not verified.
        certificate: of a tenant, instead of a key or beside it; shown in the TLS handshake.

    Raises:
        ConfigError: the URL or the policy is wrong.
        PolicyDenied: it is another front end, or another mesh, than the policy accepts.
        AttestationError: its evidence is not genuine, not current or not about this connection.
        TransportError: it cannot be reached.
    """
    client = Client(
        url,
        policy=policy,
        timeout_s=timeout_s,
        seal=seal,
        pad=pad,
        api_key=api_key,
        certificate=certificate,
    )
    try:
        client.verify()
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """A client of one front end. Thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        policy: ClientPolicy | Path | str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        seal: Seal | None = None,
        pad: bool = True,
        api_key: Secret | Path | None = None,
        certificate: ClientCertificate | None = None,
    ) -> None:
        """Prepare; nothing is connected before the first call. See `connect`."""
        self._timeout_s = timeout_s
        self._request_keys = request_keys(seal)
        self._pad = pad
        self._links = Links(
            Destination(
                parse_origin(url),
                policy if isinstance(policy, ClientPolicy) else load_client_policy(policy),
                certificate=certificate,
                api_key=None if api_key is None else load_api_key(api_key),
            )
        )

    def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: int | None = None,
        outputs: tuple[str, ...] | None = None,
        timeout_s: float | None = None,
    ) -> Tensors:
        """Return the outputs of `model` for `inputs`, as read-only arrays by name.

        A lost connection is replaced, up to twice, under the same idempotency key: an inference
        changes nothing, so that doing it again does no harm. So is, more often, one to a front end
        that moved to another manifest meanwhile: nothing was done there.

        Args:
            model: its name.
            inputs: an array for each input; types are the model's own and never converted.
            version: of the model; by default the newest.
            outputs: those that are wanted; by default all.
            timeout_s: for the whole call, evidence included.

        Raises:
            RequestError: the request cannot be served as it stands; says what was expected.
            QueueFull: too much is waiting, or no worker is there; says when to come back.
            Timeout: no answer in time.
            JobFailed: the model failed on these inputs.
            ConnectionLost: three times in a row.
            PolicyDenied, AttestationError: a new connection led to another front end.
            RequestKeyInvalid: with `seal`: what the front end shows is not the workers' key.
            AuthenticationFailed: with `seal`: no worker answered so.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if self._request_keys is not None:
            return self._infer_sealed(
                self._request_keys,
                model,
                inputs,
                version=version,
                outputs=outputs,
                timeout_s=timeout_s,
            )
        call = build_infer(model, inputs, version=version, outputs=outputs, timeout_s=timeout_s)
        return parse_infer(self._do(call, timeout_s=timeout_s))

    def generate(
        self,
        model: str,
        text: str,
        *,
        version: int | None = None,
        max_tokens: int = 16,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Generator[GeneratedPart]:
        """Yield the parts of the continuation of `text` as they come.

        To leave the iterator, or to close it, ends the answer. A connection that is lost before the
        first part is replaced as for `infer`; after it the loss is raised, since another answer
        would begin anew.

        Args:
            model: its name; one that generates text.
            text: to go on from.
            version: of the model; by default the newest.
            max_tokens: of the answer; the model's owner may allow fewer.
            temperature: 0 takes the likeliest token each time.
            top_k: only so many of the likeliest are drawn from; 0: all.
            top_p: only the likeliest are drawn from that together have this probability.
            seed: the same one gives the same answer; by default another each time.
            stop: texts before which the answer ends, at most 4.
            timeout_s: for the whole answer.

        Raises:
            ConfigError: the client seals its requests; such cannot be answered in parts.
            WardianError: as of `infer`, with the first part or later.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        call = build_generate(
            model,
            text,
            version=version,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=stop,
            timeout_s=timeout_s,
            keys=self._request_keys,
        )
        return self._parts(call, timeout_s=timeout_s)

    def metadata(self, model: str, *, version: int | None = None) -> dict[str, Any]:
        """Return name, versions, inputs and outputs of `model`, as OIP v2 words them."""
        return parse_json(self._get(model_target(model, version, "")))

    def models(self) -> list[dict[str, Any]]:
        """Return the metadata of every model of the mesh, and whether each is ready."""
        return list(parse_json(self._get(b"/v1/models"))["models"])

    def ready(self) -> bool:
        """Return whether every model of the mesh has a worker."""
        return self._get(b"/v2/health/ready").status == 200

    def verify(self) -> VerifiedFrontend:
        """Return what the front end was verified as, from the newest connection's evidence."""
        if self._links.frontend is None:
            self.ready()
        if self._links.frontend is None:
            raise ConnectionLost("no connection was verified")
        return self._links.frontend

    def close(self) -> None:
        """Close all idle connections; calls that are under way end by themselves."""
        self._links.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _get(self, target: bytes) -> Answer:
        return self._do(Call(target=target), timeout_s=self._timeout_s)

    def _infer_sealed(
        self,
        keys: RequestKeys,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: int | None,
        outputs: tuple[str, ...] | None,
        timeout_s: float,
    ) -> Tensors:
        """Return the outputs for `inputs`, which are sealed anew when an epoch ends meanwhile."""
        bound_timeout(timeout_s)
        deadline, sealings = monotonic() + timeout_s, 0
        while True:
            key = keys.find(model)
            if key is None:
                key = keys.accept(
                    model, self._do(key_call(model), timeout_s=seconds_until(deadline))
                )
            left_s = seconds_until(deadline)
            sealed = build_sealed(
                model,
                inputs,
                key=key,
                version=version,
                outputs=outputs,
                timeout_s=left_s,
                pad=self._pad,
            )
            sealings += 1
            try:
                return sealed.open(self._do(sealed.call, timeout_s=left_s))
            except RequestKeyOver:
                keys.forget(key)
                if sealings >= MAX_SEALINGS:
                    raise

    def _do(self, call: Call, *, timeout_s: float) -> Answer:
        """Return the answer to `call`, on whichever connection has it."""
        deadline, attempts = monotonic() + timeout_s, Attempts()
        while True:
            try:
                link = self._links.take(deadline, anew=attempts.failed)
                return self._attempt(link, call, deadline)
            except ConnectionLost as err:
                attempts.survive(err)

    def _attempt(self, link: Link, call: Call, deadline: float) -> Answer:
        try:
            answer = link.exchange(link.protocol.request(call), deadline)
        except BaseException:
            link.close()  # an answer that comes later must not meet the next request
            raise
        self._links.give_back(link)
        return answer

    def _parts(self, call: Call, *, timeout_s: float) -> Generator[GeneratedPart]:
        """Yield the parts of the answer to `call`, on whichever connection has the first."""
        deadline, attempts = monotonic() + timeout_s, Attempts()
        while True:
            try:
                link = self._links.take(deadline, anew=attempts.failed)
            except ConnectionLost as err:
                attempts.survive(err)
                continue
            reader = PartReader(link.protocol)
            try:
                link.send(link.protocol.request(call), deadline)
                while not reader.over:
                    yield from reader.feed(link.receive(deadline))
            except ConnectionLost as err:
                link.close()
                if reader.begun:
                    raise
                attempts.survive(err)
            except BaseException:
                link.close()  # the client left, or what follows must not meet the next request
                raise
            else:
                self._links.give_back(link)
                return
