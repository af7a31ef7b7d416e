"""Whatever the order of events, no message is lost, held twice or delivered out of turn."""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from wardian.serving.queue.lease import Lane, LeaseTable

LANES = [Lane("a", 1), Lane("a", 2), Lane("b", 1)]
lanes = st.sampled_from(LANES)


class Leases(RuleBasedStateMachine):
    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable()
        self.numbers = itertools.count(1)
        self.lane_of: dict[int, Lane] = {}
        self.credit: dict[int, int] = {}
        self.held: dict[int, list[int]] = {}  # by worker
        self.waiting: dict[Lane, list[int]] = {lane: [] for lane in LANES}
        self.alone: set[int] = set()
        self.ended: set[int] = set()
        self.forgotten: set[int] = set()

    def note(self, deliveries) -> None:
        for worker, message in deliveries:
            lane = self.lane_of[worker]
            assert self.waiting[lane], "delivered what nobody offered in this lane"
            assert self.waiting[lane].pop(0) == message, "delivered out of turn"
            others = self.held[worker]
            assert message not in self.alone or not others
            assert not self.alone.intersection(others)
            others.append(message)
            assert len(others) <= self.credit[worker]

    @rule(target=workers, lane=lanes, credit=st.integers(0, 3))
    def join(self, lane, credit):
        worker = next(self.numbers)
        self.lane_of[worker], self.credit[worker], self.held[worker] = lane, credit, []
        self.note(self.table.join(worker, lane=lane, credit=credit))
        return worker

    @rule(worker=consumes(workers))
    def leave(self, worker):
        assert self.table.leave(worker) == self.held.pop(worker)
        assert self.table.leave(worker) == []
        del self.lane_of[worker]

    @rule(worker=workers, credit=st.integers(0, 3))
    def set_credit(self, worker, credit):
        self.credit[worker] = credit  # a smaller one takes nothing back
        self.note(self.table.set_credit(worker, credit))

    @rule(lane=lanes, alone=st.booleans())
    def offer(self, lane, alone):
        message = next(self.numbers)
        self.waiting[lane].append(message)
        if alone:
            self.alone.add(message)
        self.note(self.table.offer(message, lane=lane, alone=alone))

    @rule(worker=workers, data=st.data())
    def answer(self, worker, data):
        if self.held[worker]:
            message = data.draw(st.sampled_from(self.held[worker]))
            self.held[worker].remove(message)
            self.ended.add(message)
            self.note(self.table.answered(worker, message))

    @rule(lane=lanes, data=st.data())
    def forget(self, lane, data):
        if self.waiting[lane]:
            message = data.draw(st.sampled_from(self.waiting[lane]))
            self.waiting[lane].remove(message)
            self.ended.add(message)
            self.note(self.table.forget(message, lane=lane))

    @rule(lane=lanes, data=st.data())
    def forget_what_is_held(self, lane, data):
        held = [m for worker, ms in self.held.items() if self.lane_of[worker] == lane for m in ms]
        if held:
            message = data.draw(st.sampled_from(held))
            assert self.table.forget(message, lane=lane) == []
            self.forgotten.add(message)

    @invariant()
    def only_what_nobody_waits_for_stalls_a_worker(self):
        for worker, held in self.held.items():
            full = len(held) >= self.credit[worker] or bool(self.alone.intersection(held))
            wasted = bool(held) and self.forgotten.issuperset(held)
            assert self.table.stalled(worker) == (full and wasted)
            for message in held:
                assert self.table.holder(message, lane=self.lane_of[worker]) == worker

    @invariant()
    def bookkeeping_agrees(self):
        for worker, held in self.held.items():
            assert self.table.held(worker) == len(held)
            assert all(self.table.holds(worker, message) for message in held)
            assert not any(self.table.holds(worker, message) for message in self.ended)
        everywhere = [m for held in self.held.values() for m in held]
        everywhere += [m for waiting in self.waiting.values() for m in waiting]
        assert len(everywhere) == len(set(everywhere))

    @invariant()
    def nothing_waits_for_a_worker_with_room(self):
        for lane, waiting in self.waiting.items():
            workers = [worker for worker, of in self.lane_of.items() if of == lane]
            assert self.table.crew(lane) == len(workers)
            if waiting:
                assert self.table.room(lane) == 0
                needs_idle = waiting[0] in self.alone
                for worker in workers:
                    held = self.held[worker]
                    guarded = bool(self.alone.intersection(held))
                    full = len(held) >= self.credit[worker]
                    assert full or guarded or (needs_idle and held)


Leases.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLeases = Leases.TestCase
