"""Dispatcher, Redis queue and workers over a real redis-server, by way of a proxy that may lie."""

import asyncio
import threading

from simulators.data_plane import LANE, LANES, Collector, ToyModel, image, receiver, sender
from simulators.data_plane import is_answer as is_right
from simulators.hostile_redis import HostileRedis
from simulators.redis_server import RedisServer

from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue.redis_front import RedisFrontQueue
from wardian.serving.queue.redis_worker import RedisWorkerQueue
from wardian.serving.worker import Worker


class RedisWorker:
    """A worker in a thread."""

    def __init__(self, server: RedisServer, port: int, model) -> None:
        self.queue = RedisWorkerQueue(server.access("worker", port=port), lane=LANE)
        self.worker = Worker(
            model=model, lane=LANE, max_batch=64, queue=self.queue, codec=receiver()
        )
        self.thread = threading.Thread(target=self.worker.run, daemon=True)
        self.thread.start()

    def cut(self) -> None:
        """Lose the connection, as when it is killed."""
        if self.queue._link is not None:
            self.queue._link._socket.shutdown(2)


class RedisPlane:
    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.relay = HostileRedis(server)
        self.queue = RedisFrontQueue(server.access(port=self.relay.port), look_s=0.05)
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=999
        )
        self.requests = Collector(self.dispatcher)
        self.running: list[RedisWorker] = []

    async def start(self) -> "RedisPlane":
        await self.relay.start()
        await self.queue.start()
        return self

    async def worker(self, model=None) -> RedisWorker:
        self.running.append(RedisWorker(self.server, self.relay.port, model or ToyModel()))
        await self.ready()
        return self.running[-1]

    async def ready(self) -> None:
        while not self.dispatcher.catalog()["digits"].ready or not self.queue.connected:
            await asyncio.sleep(0.005)

    async def answer(self, value: float) -> bool:
        """Return whether one more request is answered rightly."""
        name = f"one more: {value} {self.requests.expected}"
        self.requests.submit(name, image(value), deadline_s=20)
        await self.requests.all_done()
        return is_right(self.requests.outcomes[name], value)

    async def close(self) -> None:
        for running in self.running:
            running.worker.stop()
        for running in self.running:
            await asyncio.to_thread(running.thread.join, 10)
            assert not running.thread.is_alive()
            await asyncio.to_thread(running.queue.close)  # of one that died in between as well
        await self.queue.close()
        self.dispatcher.close()
        await self.relay.close()
