"""Jobs of Flink: what its REST server says of them, and what it is told to do with them."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from wardian.engines.flink import reports
from wardian.engines.flink.rest import NotFound, RestClient
from wardian.errors import PeerProtocolError, Timeout, TransportError

OVER: Final = frozenset({"FINISHED", "CANCELED", "FAILED"})
SAVEPOINT_S: Final = 60.0
CANCEL_S: Final = 60.0
_REASON_CHARACTERS: Final = 300


class Job(msgspec.Struct, frozen=True):
    """One of all jobs."""

    jid: str
    name: str
    state: str


class Subtask(msgspec.Struct, frozen=True):
    """One parallel instance: `status` and `attempt` as Flink counts them, and where it is."""

    subtask: int
    status: str
    attempt: int
    endpoint: str = ""


class _Jobs(msgspec.Struct, frozen=True):
    jobs: list[Job]


class _Vertex(msgspec.Struct, frozen=True):
    id: str


class _Details(msgspec.Struct, frozen=True):
    state: str
    vertices: list[_Vertex]


class _Subtasks(msgspec.Struct, frozen=True):
    subtasks: list[Subtask]


class _Metric(msgspec.Struct, frozen=True):
    id: str
    value: str = ""


class _Trigger(msgspec.Struct, frozen=True, rename="kebab"):
    request_id: str


class _Status(msgspec.Struct, frozen=True):
    id: str


class _Operation(msgspec.Struct, frozen=True):
    location: str | None = None


class _Savepoint(msgspec.Struct, frozen=True):
    status: _Status
    operation: _Operation | None = None


class Jobs:
    """Jobs behind one REST server."""

    def __init__(self, rest: RestClient) -> None:
        """Ask `rest`."""
        self._rest = rest

    async def named(self, name: str) -> list[Job]:
        """Return the jobs called `name` that are not over."""
        found = await self._rest.get("/jobs/overview", _Jobs)
        return [job for job in found.jobs if job.name == name and job.state not in OVER]

    async def state(self, jid: str) -> str | None:
        """Return the state of a job; None: Flink does not know it (any more)."""
        try:
            return (await self._rest.get(f"/jobs/{jid}", _Details)).state
        except NotFound:
            return None

    async def subtasks(self, jid: str) -> list[tuple[Subtask, reports.Report | None, str]]:
        """Return each subtask, what it reports of its worker, and that worker's reason.

        Empty where Flink does not know the job.
        """
        try:
            details = await self._rest.get(f"/jobs/{jid}", _Details)
            if len(details.vertices) != 1:  # one chain of two operators, as we submit it
                raise PeerProtocolError("flink: the job is not one of ours")
            at = f"/jobs/{jid}/vertices/{details.vertices[0].id}"
            found = (await self._rest.get(at, _Subtasks)).subtasks
            names = [each.id for each in await self._rest.get(f"{at}/metrics", list[_Metric])]
            wanted = [name for name in names if f".{reports.GROUP}." in name]
            values = (
                await self._rest.get(f"{at}/metrics?get={','.join(wanted)}", list[_Metric])
                if wanted
                else []
            )
        except NotFound:
            return []
        numbers = {each.id: _number(each.value) for each in values}
        return [(each, *_reported(each.subtask, numbers)) for each in found]

    async def stop(self, jid: str, directory: Path | None) -> str:
        """Have a job's workers answer and end, and return where its savepoint is.

        Raises:
            TransportError: Flink does not answer, or could not take the savepoint: it runs on.
        """
        body: dict[str, object] = {"drain": False}
        if directory is not None:
            body["targetDirectory"] = directory.as_uri()
        request = (await self._rest.post(f"/jobs/{jid}/stop", body, _Trigger)).request_id
        try:
            async with asyncio.timeout(SAVEPOINT_S):
                while True:
                    said = await self._rest.get(f"/jobs/{jid}/savepoints/{request}", _Savepoint)
                    if said.status.id == "COMPLETED":
                        break
                    await asyncio.sleep(0.2)
        except TimeoutError as err:
            raise Timeout("flink: no savepoint in time") from err
        if said.operation is None or said.operation.location is None:
            raise PeerProtocolError("flink: the savepoint failed")
        await self._over(jid)
        return said.operation.location

    async def cancel(self, jid: str) -> None:
        """End a job; its workers are cut off from it and end by themselves."""
        try:
            await self._rest.patch(f"/jobs/{jid}?mode=cancel")
        except NotFound:
            return
        except PeerProtocolError:  # 409: it is over
            if await self.state(jid) not in {None, *OVER}:
                raise
        await self._over(jid)

    async def end(self, jid: str, directory: Path | None) -> str | None:
        """End a job by `stop`, or where that cannot be by `cancel`; return its savepoint."""
        try:
            return await self.stop(jid, directory)
        except TransportError:  # a task is not running, or there is nowhere to save
            await self.cancel(jid)
            return None

    async def _over(self, jid: str) -> None:
        try:
            async with asyncio.timeout(CANCEL_S):
                while await self.state(jid) not in {None, *OVER}:  # noqa: ASYNC110 (of a server)
                    await asyncio.sleep(0.2)
        except TimeoutError as err:
            raise Timeout("flink: the job does not end") from err


def _number(value: str) -> int:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0


def _reported(subtask: int, numbers: dict[str, int]) -> tuple[reports.Report | None, str]:
    prefix = f"{subtask}."
    mine = {name.rpartition(".")[2]: n for name, n in numbers.items() if name.startswith(prefix)}
    said = mine.get(reports.WORKER)
    order = (f"{reports.REASON}{at}" for at in range(reports.REASON_WORDS))
    reason = reports.text([mine[name] for name in order if name in mine])
    return (None if said is None else reports.decode(said)), reason
