"""The capacity model against what is known of queues, and its page against its results."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "capacity"))
import calibrate
import capacity_page
import check
import picture
import plan
import queueing
from costs import Closed, Costs, Deployment, Open
from processors import HOT_S, PROTECTED_S, TICK_S, Process, Processors
from simulate import simulate

BENCH = Path(__file__).parents[2] / "bench"
COSTS = Costs(
    client_turn=60e-6,
    client_request=25e-6,
    front_request=50e-6,
    front_message=350e-6,
    redis_message=160e-6,
    worker_message=310e-6,
    batch=0.0,
    row=3e-6,
    wake=20e-6,
    spread=0.2,
)
ONLY_WORKER = Costs(
    front_request=0.0, front_message=0.0, redis_message=0.0, worker_message=0.0,
    batch=0.0, row=1e-3, wake=0.0, spread=0.0,
)  # fmt: skip


def test_erlang_c_is_what_tables_say() -> None:
    assert queueing.erlang_c(1, 0.7) == pytest.approx(0.7)
    assert queueing.erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert queueing.erlang_c(10, 8.0) == pytest.approx(0.4092, abs=1e-4)
    assert queueing.erlang_c(4000, 3000.0) < 1e-9  # and nothing overflows
    with pytest.raises(ValueError, match="without end"):
        queueing.erlang_c(2, 2.0)


def test_one_server_waits_as_pollaczek_and_khinchine_say() -> None:
    rate, service = 600.0, 1e-3
    fixed = queueing.wait(1, rate=rate, service=service, spread=0.0)
    assert fixed == pytest.approx(rate * service**2 / 2 / (1 - rate * service))
    assert queueing.wait(1, rate=rate, service=service, spread=1.0) == pytest.approx(2 * fixed)


def test_the_tail_of_exponential_times_is_exact() -> None:
    rate, service = 600.0, 1e-3
    late = queueing.wait_quantile(0.99, 1, rate=rate, service=service, spread=1.0)
    assert 0.6 * math.exp(-late * (1 - 0.6) / service) == pytest.approx(0.01)
    assert queueing.wait_quantile(0.3, 1, rate=rate, service=service, spread=1.0) == 0.0


def test_the_bound_names_what_is_full() -> None:
    front = queueing.bounds(COSTS, Deployment(), pack=32)
    assert front.bottleneck == "frontend"
    assert front.most == pytest.approx(1 / (50e-6 + 350e-6 / 32))
    shared = queueing.bounds(COSTS, Deployment(cores=1), pack=32)
    assert shared.bottleneck == "cores"
    many = queueing.bounds(COSTS, Deployment(fronts=50), pack=1)
    assert many.bottleneck == "worker"


@pytest.mark.parametrize("bad", [{"fronts": 0}, {"workers": 3, "shards": 2}, {"max_batch": 0}])
def test_what_cannot_be_deployed_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one|as many workers"):
        Deployment(**bad)


def test_a_run_is_its_seed() -> None:
    def run(seed: int) -> object:
        return simulate(COSTS, Deployment(cores=2), Open(rate=3000), seconds=0.4, seed=seed)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_simulated_worker_is_the_queue_that_pen_and_paper_know() -> None:
    rate = 700.0
    shown = simulate(
        ONLY_WORKER, Deployment(max_batch=1), Open(rate=rate), seconds=20.0, warm=1.0, seed=3
    )
    expected = 1e-3 + queueing.wait(1, rate=rate, service=1e-3, spread=0.0)
    assert shown.mean == pytest.approx(expected, rel=0.1)
    assert shown.busy["worker"] == pytest.approx(shown.per_second * 1e-3, rel=0.01)


def test_two_workers_do_the_work_of_two() -> None:
    full = Closed(connections=8)
    one, two = (
        simulate(ONLY_WORKER, Deployment(max_batch=1, workers=number), full, seconds=2.0)
        for number in (1, 2)
    )
    assert one.per_second == pytest.approx(1000, rel=0.01)
    assert two.per_second == pytest.approx(2000, rel=0.01)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("connections", [1, 16, 64])
def test_no_schedule_beats_the_bounds(connections: int, shards: int) -> None:
    # A turn of the generator may take the answers of several messages: it is not by message.
    costs = replace(COSTS, spread=0.0, client_turn=0.0)
    deployed = Deployment(fronts=2, shards=shards, workers=2, cores=2)
    shown = simulate(costs, deployed, Closed(connections=connections), seconds=1.0)
    most = queueing.bounds(costs, deployed, pack=shown.pack).most
    assert 0 < shown.per_second <= 1.03 * most
    assert sum(shown.busy.values()) <= 2 * 1.01
    # Little: as many are in the system as there are connections.
    assert shown.per_second * shown.mean == pytest.approx(connections, rel=0.05)


def test_load_makes_messages_larger_and_requests_cheaper() -> None:
    few, many = (simulate(COSTS, Deployment(), Open(rate=rate)) for rate in (500, 9000))
    assert many.pack > 2 * few.pack
    assert many.busy["frontend"] / many.per_second < few.busy["frontend"] / few.per_second / 2


def test_a_load_beyond_the_capacity_shows_as_one() -> None:
    shown = simulate(ONLY_WORKER, Deployment(max_batch=1), Open(rate=2000), seconds=2.0)
    assert shown.per_second == pytest.approx(1000, rel=0.02)
    assert shown.p99 > 0.5


def works(cpu: Processors, times: list[float], each: float, ends: list[float]) -> Process:
    def turn() -> None:
        if times:
            process.add(times.pop() * each, lambda: ends.append(cpu.now))

    process = Process(cpu, turn=turn, wake=0.0, scale=lambda: 1.0)
    return process


def test_a_core_is_given_up_at_a_tick() -> None:
    cpu, long, short = Processors(1), [], []
    works(cpu, [1.0], 0.010, long).rouse()
    works(cpu, [1.0], 0.001, short).rouse()
    cpu.run(1.0)
    assert short == [pytest.approx(TICK_S + 0.001)]
    assert long == [pytest.approx(0.011)]


@pytest.mark.parametrize(("after", "begins"), [(0.5, TICK_S), (1.5, 1.5 * PROTECTED_S)])
def test_who_wakes_up_interrupts_who_has_run_for_a_while(after: float, begins: float) -> None:
    cpu, long, short = Processors(1), [], []
    works(cpu, [1.0], 0.010, long).rouse()
    late = works(cpu, [1.0], 0.001, short)
    cpu.at(after * PROTECTED_S, late.rouse)
    cpu.run(1.0)
    assert short == [pytest.approx(begins + 0.001)]
    assert long == [pytest.approx(0.011)]


@pytest.mark.parametrize(
    ("slept", "begins"), [(HOT_S / 2, 0.004), (2 * HOT_S, 0.002)], ids=["hot", "cold"]
)
def test_an_idle_core_takes_over_who_waits_once_its_caches_are_cold(
    slept: float, begins: float
) -> None:
    cpu, ends = Processors(2), []
    works(cpu, [1.0], 0.010, []).rouse()  # the first core, throughout
    works(cpu, [1.0], 0.002, []).rouse()  # the second, for a while
    waits = works(cpu, [1.0], 0.001, ends)
    waits.core, waits.ran = cpu.shared[0], 0.002 - slept
    cpu.at(0.001, waits.rouse)
    cpu.run(1.0)
    assert ends == [pytest.approx(begins + 0.001)]


def test_a_core_that_stands_still_puts_off_its_work() -> None:
    cpu, ends = Processors(1), []
    process = works(cpu, [1.0], 0.002, ends)
    process.rouse()
    cpu.at(0.001, lambda: process.stand(0.005))
    cpu.run(1.0)
    assert ends == [pytest.approx(0.007)]
    assert process.busy == pytest.approx(0.002)


def test_work_after_a_long_sleep_is_dearer() -> None:
    cpu, ends = Processors(1), []
    times = [1.0, 1.0]

    def turn() -> None:
        if cpu.now in {0.0, 1.0} and times:
            times.pop()
            process.add(0.001, lambda: ends.append(cpu.now))

    process = Process(cpu, turn=turn, wake=0.0, scale=lambda: 1.0, cold=0.5)
    cpu.at(0.0, process.rouse)
    cpu.at(1.0, process.rouse)
    cpu.run(2.0)
    assert ends == [pytest.approx(0.001), pytest.approx(1.0015)]


def point(**more: object) -> dict[str, object]:
    figures = {"per_second": 100.0, "p50_ms": 1.0, "p99_ms": 2.0, "mean_ms": 1.0}
    about = {"model": "digits", "workers": 1, "why": "check", "rate": None, "connections": 4}
    rest = {"rows": 1, "answered": 1000, "packs": 500.0, "cpu_s": {"redis": 0.1}, "failed": 0}
    return {**about, **figures, **rest, "others": 0.0, **more}


def test_what_was_measured_on_a_busy_machine_does_not_count() -> None:
    points = [point(), point(others=0.2), point(failed=50), point(failed=1)]
    assert calibrate.clean(points, quiet=0.03) == [points[0], points[3]]


def test_the_rounds_of_a_load_become_their_median() -> None:
    points = [point(p99_ms=value) for value in (2.0, 9.0, 3.0)] + [point(workers=2)]
    one, two = calibrate.grouped(points)
    assert (one["p99_ms"], one["rounds"], one["pack"]) == (3.0, 3, 2.0)
    assert one["cpu"]["redis"] == pytest.approx(1e-4)
    assert (two["workers"], two["rounds"]) == (2, 1)


def test_costs_are_found_again_in_what_they_make() -> None:
    points = [
        {"pack": pack, "cpu": {"frontend": 50e-6 + 350e-6 / pack}} for pack in (1.0, 2.2, 8.0)
    ]
    assert calibrate.divide(points, "frontend") == (pytest.approx(50e-6), pytest.approx(350e-6))
    flat = [{"pack": pack, "cpu": {"redis": 160e-6 / pack**1.1}} for pack in (1.0, 2.0, 8.0)]
    assert calibrate.divide(flat, "redis")[0] == 0.0  # no work takes less than no time


def test_bisection_ends_where_the_function_is_wanted_or_at_an_end() -> None:
    assert calibrate.bisect(lambda x: x * x, 2.0, 0.0, 4.0) == pytest.approx(1.414, abs=0.02)
    assert calibrate.bisect(lambda x: x, 9.0, 0.0, 4.0) == 4.0
    assert calibrate.bisect(lambda x: x, -1.0, 0.0, 4.0) == 0.0


def test_gaps_of_a_busy_machine_and_pauses_of_all_of_it_are_left_out() -> None:
    quiet = {"gaps": [0.001, 0.004, 0.2], "seconds": 2.0, "others": 0.01}
    busy = {"gaps": [0.008] * 50, "seconds": 2.0, "others": 0.3}
    assert check.gaps_of([quiet, busy], quiet=0.03) == ((0.001, 0.004), 0.5)


def test_a_run_that_others_disturbed_throughout_calibrates_nothing() -> None:
    run = {"points": [point(why="calibration"), point(others=0.5)], "gaps": []}
    with pytest.raises(check.TooBusy, match="digits"):
        check.costs_of(run, quiet=0.03)


def test_a_plan_grows_with_its_rate() -> None:
    facts = {
        "handshake": 2e-3, "release": 7e-3, "network_bytes": 3000.0, "release_bytes": 2000.0,
        "frontend_mb": 60.0, "redis_mb": 10.0, "worker_mb": 80.0,
    }  # fmt: skip
    one = plan.Cell(rate=5000, pack=5.0, workers=1, p50=1e-3, p99=2e-3, use={})
    found = {each.name: each for each in plan.needs(COSTS, one, facts, 1e6)}
    assert found["front ends"].count == 200
    assert found["Redis"].count == pytest.approx(1e6 / 5 * 160e-6 / plan.USE)
    assert found["the same at the default limit, s"].count == 8
    assert found["network, Gbit/s"].count == pytest.approx(24)
    assert found["renewals a second"].count == pytest.approx(400 / 1800)
    assert found["restart of everything, s"].count == pytest.approx(2.8)
    twice = plan.needs(COSTS, one, facts, 2e6)
    for before, after in zip(found.values(), twice, strict=True):
        assert after.count == pytest.approx(2 * before.count), before.name


def test_a_cell_carries_its_part_of_what_no_front_end_exceeds() -> None:
    found = plan.cell(COSTS, max_batch=64, seconds=0.5)
    most = 1 / (COSTS.front_request + COSTS.front_message / 64)
    # A rate counts as sustained from 97 % of it on.
    assert 0.6 * plan.USE * most < found.rate <= plan.USE * most / 0.97
    assert found.use["worker"] <= plan.USE
    assert found.workers >= 1
    assert found.p50 < found.p99 < 0.05


def newest() -> dict[str, object]:
    lines = (BENCH / "results" / "capacity.jsonl").read_text().splitlines()
    found: dict[str, object] = json.loads(lines[-1])
    return found


def test_the_page_is_what_the_newest_results_say() -> None:
    result = newest()
    assert (capacity_page.DOCS / "capacity.md").read_text() == capacity_page.page(result)
    drawn = picture.draw_plan(capacity_page.series(result["plan"]))
    assert (capacity_page.DOCS / "capacity-plan.svg").read_text() == drawn


@pytest.mark.parametrize("name", ["capacity-check.svg", "capacity-plan.svg"])
def test_a_picture_is_svg_inside_its_frame(name: str) -> None:
    root = ET.fromstring((capacity_page.DOCS / name).read_text())
    circles = root.findall(".//{http://www.w3.org/2000/svg}circle")
    assert circles
    for each in circles:
        assert 0 <= float(each.get("cx", "-1")) <= picture.WIDTH
        assert 0 <= float(each.get("cy", "-1")) <= picture.HEIGHT


def test_the_check_predicts_no_point_that_it_was_calibrated_on() -> None:
    def load(row: dict[str, object]) -> tuple[object, ...]:
        return row["model"], row["workers"], row["load"]

    rows = newest()["rows"]
    calibrated = {load(row) for row in rows if row["why"] == "calibration"}
    checked = {load(row) for row in rows if row["why"] == "check"}
    assert checked
    assert not calibrated & checked
    assert {row["workers"] for row in rows if row["why"] == "check"} == {1, 2}
