"""What `wardian bench serving` does: connect, ask the model what it takes, put the loads on."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian.cli.bench.screen import LiveLine
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, Timeout, WardianError
from wardian.inference.spec import Tensors
from wardian.serving.client.aio import AsyncClient, connect_async
from wardian.serving.client.messages import MAX_TIMEOUT_S
from wardian.serving.client.origin import parse_origin
from wardian.serving.client.policy import load_client_policy
from wardian.serving.loadgen.dial import VerifiedDial
from wardian.serving.loadgen.drive import Driver
from wardian.serving.loadgen.load import ClosedLoad, Load, OpenLoad, ramp
from wardian.serving.loadgen.payload import (
    Encoding,
    build_call,
    build_payload,
    load_inputs,
    make_inputs,
)
from wardian.serving.loadgen.report import Report

USUAL_CONNECTIONS: Final = 16
"""Of a closed loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for; see its help.

    Attributes:
        rates: of open loops; with none, a closed loop is measured.
        curve: measure the rates of a curve below the capacity that a closed loop shows.
        connections: None for the usual number.
        api_key: of the tenant who asks, where front ends serve tenants.
    """

    url: str
    policy: Path
    model: str | None
    version: int | None
    inputs: Path | None
    rows: int
    encoding: Encoding
    rates: tuple[float, ...]
    curve: bool
    connections: int | None
    seconds: float
    timeout_s: float
    api_key: Secret | None = None

    def loads(self) -> list[Load]:
        """Return the loads that are known before anything is measured.

        Raises:
            ConfigError: a number is out of its range.
        """
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:  # false for NaN as well
            raise ConfigError(f"--timeout: seconds, above 0 and at most {MAX_TIMEOUT_S}")
        if self.rates:
            return [self.open(rate) for rate in self.rates]
        connections = USUAL_CONNECTIONS if self.connections is None else self.connections
        return [ClosedLoad(connections=connections, seconds=self.seconds)]

    def open(self, rate: float) -> OpenLoad:
        """Return an open load of `rate`."""
        if self.connections is None:
            return OpenLoad(rate=rate, seconds=self.seconds)
        return OpenLoad(rate=rate, seconds=self.seconds, connections=self.connections)


async def measure(wanted: Wanted, reports: list[Report]) -> None:
    """Append to `reports` the figures of each load; Ctrl-C ends the last one early.

    Raises:
        WardianError: settings, policy or evidence are wrong, or the first request is not answered.
    """
    loads = wanted.loads()
    origin, policy = parse_origin(wanted.url), load_client_policy(wanted.policy)
    given = None if wanted.inputs is None else load_inputs(wanted.inputs)
    async with await connect_async(
        wanted.url, policy=policy, timeout_s=wanted.timeout_s, api_key=wanted.api_key
    ) as client:
        model = wanted.model or await _only_model(client)
        inputs = given or make_inputs(
            await client.metadata(model, version=wanted.version), rows=wanted.rows
        )
        await _try_once(client, model, inputs, wanted)
    call = build_call(
        model,
        inputs,
        version=wanted.version,
        timeout_s=wanted.timeout_s,
        encoding=wanted.encoding,
    )
    driver = Driver(
        VerifiedDial(origin, policy),
        [build_payload(call, authority=origin.authority, api_key=wanted.api_key)],
        patience_s=wanted.timeout_s + 1.0,
    )
    async with _interruptible(driver):
        for load in loads:
            await _put_on(driver, load, reports)
        if wanted.curve and not wanted.rates and not driver.stopping.is_set():
            for rate in ramp(reports[-1].goodput):
                await _put_on(driver, wanted.open(rate), reports)


async def _put_on(driver: Driver, load: Load, reports: list[Report]) -> None:
    if driver.stopping.is_set():
        return
    with LiveLine(load) as shown:
        reports.append(await driver.run(load, shown.show))


async def _only_model(client: AsyncClient) -> str:
    names = sorted(str(each["name"]) for each in await client.models())
    if len(names) != 1:
        raise ConfigError(f"--model: say which one: {', '.join(names) or 'there is none'}")
    return names[0]


async def _try_once(client: AsyncClient, model: str, inputs: Tensors, wanted: Wanted) -> None:
    """Ask once: what fails now would fail a million times."""
    try:
        await client.infer(model, inputs, version=wanted.version, timeout_s=wanted.timeout_s)
    except Timeout as err:
        raise Timeout(f"one request alone had no answer in {wanted.timeout_s:g} s") from err


@asynccontextmanager
async def _interruptible(driver: Driver) -> AsyncIterator[None]:
    """Stop `driver` at the first Ctrl-C; close its connections at the end."""
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
        loop.add_signal_handler(signal.SIGINT, driver.stop)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError):
            loop.remove_signal_handler(signal.SIGINT)
        await driver.close()


def run(wanted: Wanted) -> tuple[list[Report], WardianError | None]:
    """Measure on an event loop of its own; return what was measured and what ended it early.

    A load that was over when a later one failed is not lost.

    Raises:
        WardianError: nothing was measured.
    """
    reports: list[Report] = []
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(measure(wanted, reports))
    except WardianError as err:
        if not reports:
            raise
        return reports, err
    return reports, None


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop  # noqa: PLC0415  an extra, and absent on Windows
    except ImportError:
        return None
    return uvloop.Loop
