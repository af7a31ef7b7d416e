"""The asynchronous client: as `client`, for asyncio.

async with await connect_async("https://localhost:8443", policy="client-policy.toml") as client:
    answer = await client.infer("digits", {"pixels": images})
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy.typing as npt

from wardian._internal.clock import monotonic
from wardian.crypto.secret import Secret
from wardian.errors import ConnectionLost, RequestKeyOver, Timeout
from wardian.inference.spec import Tensors
from wardian.serving.client.aio_links import AsyncLink, AsyncLinks
from wardian.serving.client.attempts import Attempts
from wardian.serving.client.connection import Destination
from wardian.serving.client.credentials import ClientCertificate, load_api_key
from wardian.serving.client.generating import GeneratedPart, PartReader, build_generate
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
MAX_CONNECTIONS: Final = 64


async def connect_async(
    url: str,
    *,
    policy: ClientPolicy | Path | str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    max_connections: int = MAX_CONNECTIONS,
    seal: Seal | None = None,
    pad: bool = True,
    api_key: Secret | Path | None = None,
    certificate: ClientCertificate | None = None,
) -> "AsyncClient":
    """Return a client of the front end at `url`, which `policy` has accepted.

    See `client.connect` for arguments and errors; `max_connections` are open at most, and further
    calls wait for one of them.
    """
    client = AsyncClient(
        url,
        policy=policy,
        timeout_s=timeout_s,
        max_connections=max_connections,
        seal=seal,
        pad=pad,
        api_key=api_key,
        certificate=certificate,
    )
    try:
        await client.verify()
    except BaseException:
        await client.close()
        raise
    return client


class AsyncClient:
    """A client of one front end, for the event loop on which it is used first."""

    def __init__(
        self,
        url: str,
        *,
        policy: ClientPolicy | Path | str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_connections: int = MAX_CONNECTIONS,
        seal: Seal | None = None,
        pad: bool = True,
        api_key: Secret | Path | None = None,
        certificate: ClientCertificate | None = None,
    ) -> None:
        """Prepare; nothing is connected before the first call. See `connect_async`."""
        self._timeout_s = timeout_s
        self._request_keys = request_keys(seal)
        self._pad = pad
        self._free = asyncio.Semaphore(max_connections)
        self._links = AsyncLinks(
            Destination(
                parse_origin(url),
                policy if isinstance(policy, ClientPolicy) else load_client_policy(policy),
                certificate=certificate,
                api_key=None if api_key is None else load_api_key(api_key),
            )
        )

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: int | None = None,
        outputs: tuple[str, ...] | None = None,
        timeout_s: float | None = None,
    ) -> Tensors:
        """Return the outputs of `model` for `inputs`; see `client.Client.infer`."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if self._request_keys is not None:
            return await self._infer_sealed(
                self._request_keys,
                model,
                inputs,
                version=version,
                outputs=outputs,
                timeout_s=timeout_s,
            )
        call = build_infer(model, inputs, version=version, outputs=outputs, timeout_s=timeout_s)
        return parse_infer(await self._do(call, timeout_s=timeout_s))

    async def generate(
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
    ) -> AsyncGenerator[GeneratedPart]:
        """Yield the parts of the continuation of `text` as they come; see `client.Client.generate`.

        Leave it by `aclosing` (`contextlib`): an asynchronous generator that is merely dropped ends
        when the event loop gets to it.
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
        try:
            ends_at = asyncio.get_running_loop().time() + timeout_s
            async with asyncio.timeout_at(ends_at):
                await self._free.acquire()
            try:
                async with aclosing(self._parts(call, ends_at)) as parts:
                    async for part in parts:
                        yield part
            finally:
                self._free.release()
        except TimeoutError as err:
            raise Timeout("no answer within the time that was given") from err

    async def metadata(self, model: str, *, version: int | None = None) -> dict[str, Any]:
        """Return name, versions, inputs and outputs of `model`, as OIP v2 words them."""
        return parse_json(await self._get(model_target(model, version, "")))

    async def models(self) -> list[dict[str, Any]]:
        """Return the metadata of every model of the mesh, and whether each is ready."""
        return list(parse_json(await self._get(b"/v1/models"))["models"])

    async def ready(self) -> bool:
        """Return whether every model of the mesh has a worker."""
        return (await self._get(b"/v2/health/ready")).status == 200

    async def verify(self) -> VerifiedFrontend:
        """Return what the front end was verified as, from the newest connection's evidence."""
        if self._links.frontend is None:
            await self.ready()
        if self._links.frontend is None:
            raise ConnectionLost("no connection was verified")
        return self._links.frontend

    async def close(self) -> None:
        """Close all idle connections; calls that are under way end by themselves."""
        await self._links.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _get(self, target: bytes) -> Answer:
        return await self._do(Call(target=target), timeout_s=self._timeout_s)

    async def _infer_sealed(
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
                answer = await self._do(key_call(model), timeout_s=_time(deadline))
                key = keys.accept(model, answer)
            left_s = _time(deadline)
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
                return sealed.open(await self._do(sealed.call, timeout_s=left_s))
            except RequestKeyOver:
                keys.forget(key)
                if sealings >= MAX_SEALINGS:
                    raise

    async def _do(self, call: Call, *, timeout_s: float) -> Answer:
        """Return the answer to `call`, on whichever connection has it."""
        try:
            async with asyncio.timeout(timeout_s), self._free:
                return await self._until_served(call)
        except TimeoutError as err:
            raise Timeout("no answer within the time that was given") from err

    async def _until_served(self, call: Call) -> Answer:
        attempts = Attempts()
        while True:
            try:
                link = await self._links.take(anew=attempts.failed)
                return await self._attempt(link, call)
            except ConnectionLost as err:
                attempts.survive(err)

    async def _attempt(self, link: AsyncLink, call: Call) -> Answer:
        try:
            answer = await link.exchange(link.protocol.request(call))
        except BaseException:
            link.abort()  # an answer that comes later must not meet the next request
            raise
        self._links.give_back(link)
        return answer

    async def _parts(self, call: Call, ends_at: float) -> AsyncGenerator[GeneratedPart]:
        """Yield the parts of the answer to `call`, on whichever connection has the first.

        The timeout is around each wait and never around a `yield`: what the caller does between
        parts is not to be cancelled.
        """
        attempts = Attempts()
        while True:
            try:
                async with asyncio.timeout_at(ends_at):
                    link = await self._links.take(anew=attempts.failed)
            except ConnectionLost as err:
                attempts.survive(err)
                continue
            reader = PartReader(link.protocol)
            try:
                async with asyncio.timeout_at(ends_at):
                    await link.send(link.protocol.request(call))
                while not reader.over:
                    async with asyncio.timeout_at(ends_at):
                        data = await link.receive()
                    for part in reader.feed(data):
                        yield part
            except ConnectionLost as err:
                link.abort()
                if reader.begun:
                    raise
                attempts.survive(err)
            except BaseException:
                link.abort()  # the client left, or what follows must not meet the next request
                raise
            else:
                self._links.give_back(link)
                return


def _time(deadline: float) -> float:
    """Return the seconds until `deadline`; Timeout if there are none."""
    left = deadline - monotonic()
    if left <= 0:
        raise Timeout("no answer within the time that was given")
    return left
