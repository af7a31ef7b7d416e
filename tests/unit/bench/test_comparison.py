"""The comparison with MPC and HE: packing, sums, bytes, table, page and pictures; few processes."""

import json
import socket
import sys
import threading
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))
sys.path.insert(0, str(Path(__file__).parents[3] / "bench" / "capacity"))
sys.path.insert(0, str(Path(__file__).parents[3] / "bench" / "compare"))
import comparison_page
import comparison_plot
import elsewhere
import nets
import packing
import rows
import trained
from inprocess import Clear, Sealed
from published import CLAIMS, HARDWARE
from relay import relay

BENCH = Path(__file__).parents[3] / "bench"
SLOTS = 4096


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    return folder, trained.make_nets(folder)


def seen(seconds=1.0, clear_s=0.5, served_s=0.0, moved=10, scores=((1.0, 2.0),), **more):
    scores = np.array(scores)
    expected = more.pop("expected", scores)
    return rows.Seen(seconds=seconds, cpu_s=3 * seconds, clear_s=clear_s, clear_cpu_s=clear_s,
                     served_s=served_s, bytes=moved,
                     scores=scores, expected=np.array(expected), **more)  # fmt: skip


def comparison(absent=(), batches=(1, 64)):
    """Return a run in which each path took ten times what the one before it took."""
    found, why = {}, {(path, "mlp"): "not installed here: make he" for path in absent}
    for batch in batches:
        for power, path in enumerate(rows.PATHS):
            served_s = 0.0 if path in (rows.CLEAR, rows.SEALED) else 2e-3
            one = seen(10.0**power * 1e-5, 1e-5, served_s, 100 * batch, steps={"run": 0.5})
            found[path, "mlp", batch] = [one, one, one]
    facts = rows.NetFacts(parameters=9, multiplications=8, file_bytes=700, accuracy=0.9,
                          held_out=599, largest_score=4.0)  # fmt: skip
    return rows.Comparison(
        setting={"machine": "M", "git": "abc", "date": "D", "rounds": 3, "load_average": 0.1},
        seconds=99.0,
        others=0.02,
        versions={"engine": "E 1", "he": "T 2"},
        nets={"mlp": facts},
        rows=rows.rows_of_run(found, {(rows.CKKS, "mlp"): 777}, why, batches, ["mlp"]),
    )


# The networks


def test_networks_are_trained_and_are_the_same_everywhere(made):
    folder, found = made
    assert list(found) == ["lr", "mlp", "mlp-relu", "cnn"]
    for name, (net, held, accuracy) in found.items():
        assert accuracy > 0.95
        again = nets.load_net(folder, name)
        assert again.activation == net.activation
        scores = Clear(folder, name).scores(held[:64])
        assert np.allclose(scores, again.scores(held[:64]), atol=1e-4)
        assert (nets.labels(scores) == nets.labels(again.scores(held[:64]))).all()


def test_training_gives_the_same_weights_again(made, tmp_path):
    _, first = made
    for name, (net, _, _) in trained.make_nets(tmp_path).items():
        for key, array in net.weights.items():
            assert np.array_equal(array, first[name][0].weights[key]), (name, key)


def test_sizes_are_counted_by_hand(made):
    _, found = made
    sizes = {name: (net.parameters, net.multiplications) for name, (net, _, _) in found.items()}
    assert sizes["lr"] == (31, 30)
    assert sizes["mlp"] == (64 * 32 + 32 + 320 + 10, 64 * 32 + 32 + 320)
    assert sizes["mlp-relu"] == (64 * 32 + 32 + 320 + 10, 64 * 32 + 320)
    assert sizes["cnn"] == (36 + 4 + 1440 + 10, 36 * 36 + 144 + 1440)


def test_rows_go_round_and_labels_are_decided():
    data = np.arange(5, dtype=np.float32)[:, None]
    assert nets.rows_of(data, 3, 4)[:, 0].tolist() == [3, 4, 0, 1]
    assert nets.rows_of(data, 11, 1)[:, 0].tolist() == [1]
    assert nets.labels(np.array([[-1.0], [0.1]])).tolist() == [0, 1]
    assert nets.labels(np.array([[1.0, 3.0, 2.0]])).tolist() == [1]


# Packing for CKKS


@pytest.mark.parametrize("name", ["lr", "mlp", "cnn"])
def test_rotations_and_products_compute_every_sample_of_a_full_ciphertext(made, name):
    net, held, _ = made[1][name]
    packed = packing.packing_of(net)
    count = packed.samples(SLOTS)
    x = nets.rows_of(held, 0, count)
    slots = packing.computed(packed, packed.pack(x, SLOTS))
    assert np.allclose(packed.unpack(slots, count), net.scores(x), atol=1e-3)
    one = packed.unpack(packing.computed(packed, packed.pack(x[:1], SLOTS)), 1)
    assert np.allclose(one, net.scores(x[:1]), atol=1e-3)


def test_no_sample_changes_what_is_computed_for_its_neighbours(made):
    net, held, _ = made[1]["cnn"]
    packed = packing.packing_of(net)
    x = nets.rows_of(held, 0, packed.samples(SLOTS)).copy()
    before = packed.unpack(packing.computed(packed, packed.pack(x, SLOTS)), len(x))
    x[3] += 100
    after = packed.unpack(packing.computed(packed, packed.pack(x, SLOTS)), len(x))
    others = np.arange(len(x)) != 3
    assert np.allclose(before[others], after[others], atol=1e-6)
    assert not np.allclose(before[3], after[3])


def test_only_rotations_that_have_a_key_are_used_and_there_are_few(made):
    for name in ("lr", "mlp", "cnn"):
        found = packing.packing_of(made[1][name][0]).rotations()
        assert 0 not in found
        assert len(found) <= 20
        assert all(0 < step < SLOTS for step in found)


def test_what_compares_is_refused(made):
    with pytest.raises(ValueError, match="does not compare"):
        packing.packing_of(made[1]["mlp-relu"][0])


# What a worker does with sealed requests


def test_a_sealed_request_has_the_same_scores_and_its_bytes_are_counted(made):
    folder, found = made
    for name in ("lr", "cnn"):
        held = found[name][1]
        sealed, clear = Sealed(folder, name), Clear(folder, name)
        small, few = sealed.ask(held[:1])
        large, many = sealed.ask(held[:64])
        assert np.array_equal(small, clear.scores(held[:1]))
        assert np.array_equal(large, clear.scores(held[:64]))
        payload = 63 * (held.shape[1] + large.shape[1]) * 4
        assert abs((many - few) - payload) <= 2 * 64 + 8  # tensors are padded to 64 bytes
        assert few > held[:1].nbytes + small.nbytes


# Sums


def test_figures_are_medians_of_ratios_and_means_of_bytes():
    found = rows.figures_of(
        [
            seen(2.0, 1.0, 4.0, 10, steps={"run": 1.5}),
            seen(9.0, 3.0, 3.0, 20, steps={"run": 8.0}),
            seen(8.0, 0.5, 1.0, 60, steps={"run": 7.0}),
        ],
        once_bytes=5,
    )
    assert (found.ratio, found.ratio_least, found.ratio_most) == (3.0, 2.0, 16.0)
    assert (found.ms, found.over_served, found.bytes, found.once_bytes) == (8000.0, 3.0, 30.0, 5)
    assert (found.cpu_ms, found.cpu_ratio) == (24000.0, 9.0)
    assert found.steps == {"run": 7000.0}


def test_errors_and_labels_are_those_of_every_sample():
    found = rows.figures_of(
        [
            seen(scores=[[1.0, 2.0], [3.0, 1.0]], expected=[[1.0, 2.5], [3.0, 1.0]]),
            seen(scores=[[0.0, 1.0]], expected=[[1.0, 0.0]]),
        ],
        once_bytes=0,
    )
    assert (found.max_error, found.mean_error) == (1.0, pytest.approx(2.5 / 6))
    assert (found.agreed, found.labels) == (2, 3)
    assert found.over_served == 0.0


def test_no_path_is_left_out_in_silence():
    found = comparison(absent=[rows.CKKS])
    assert len(found.rows) == len(rows.PATHS) * 2
    missing = [row for row in found.rows if row.figures is None]
    assert {(row.path, row.absent) for row in missing} == {
        (rows.CKKS, "not installed here: make he")
    }
    (never,) = rows.rows_of_run({}, {}, {}, [1], ["mlp"])[:1]
    assert never.absent == "it was not reached"


def test_a_path_that_broke_has_its_reason_and_no_figures():
    found = rows.rows_of_run(
        {(rows.ABY3, "mlp", 1): [seen()]}, {}, {(rows.ABY3, "mlp"): "it ended: why"}, [1], ["mlp"]
    )
    (row,) = [each for each in found if each.path == rows.ABY3]
    assert (row.absent, row.figures) == ("it ended: why", None)


# JSON


def test_a_line_of_json_is_read_as_it_was_written():
    found = comparison(absent=[rows.ABY3])
    line = msgspec.json.encode(found)
    assert rows.decode(line) == found
    assert b"\n" not in line


@pytest.mark.parametrize("change", ["unknown", "lost", "type"])
def test_a_line_of_another_form_is_refused(change):
    line = json.loads(msgspec.json.encode(comparison()))
    if change == "unknown":
        line["rows"][0]["more"] = 1
    elif change == "lost":
        del line["rows"][0]["figures"]["ratio"]
    else:
        line["rows"][0]["batch"] = "1"
    with pytest.raises(msgspec.ValidationError):
        rows.decode(json.dumps(line))


# Table, page, pictures


def test_the_table_has_every_path_with_size_and_batch_beside_it():
    text = comparison_page.table(comparison(absent=[rows.CHEETAH]))
    for said in (*rows.PATHS, "mlp, batch 1 (9 parameters, 8 multiplications", "batch 64",
                 "MPC, CHEETAH: not installed here: make he", "10,000 (10,000-10,000)", "3/3"):  # fmt: skip
        assert said in text
    heads = [line for line in text.splitlines() if "times clear text" in line]
    assert len(heads) == 2


def test_the_page_says_what_is_measured_what_is_not_and_what_others_say():
    text = comparison_page.page(comparison(absent=[rows.CKKS]))
    for said in ("SIMULATED", "not measured here", "E 1", "commit abc, D", "took 2 % of the machine", "99 s in all",
                 "comparison-1.svg", "comparison-64.svg", "not installed here: make he"):  # fmt: skip
        assert said in text
    for claim in CLAIMS:
        assert claim.said in text
    for each in HARDWARE:
        assert each.source in text
        assert any(year in each.source for year in ("2018", "2019", "2021", "2025"))
    assert "{" not in text


def test_every_path_of_a_claim_exists():
    assert {path for claim in CLAIMS for path in claim.paths} <= set(rows.PATHS)


@pytest.mark.parametrize("absent", [(), (rows.ABY3, rows.CHEETAH, rows.CKKS)])
def test_a_picture_is_svg_inside_its_frame(absent):
    text = comparison_plot.draw(comparison(absent=absent), 64)
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    high = float(root.get("viewBox").split()[3])
    circles = root.findall(f".//{space}circle")
    assert len(circles) == len(rows.PATHS) - 1 - len(absent)
    for each in circles:
        assert comparison_plot.LEFT <= float(each.get("cx")) <= comparison_plot.RIGHT
        assert 0 <= float(each.get("cy")) <= high
    for each in root.findall(f".//{space}rect"):
        assert float(each.get("x")) >= 0
        assert float(each.get("x")) + float(each.get("width")) <= comparison_plot.WIDTH
    assert text.count("not installed here") == len(absent)
    at = [float(each.get("cx")) for each in circles]
    assert all(left < right for left, right in pairwise(at))  # each took ten times as long


def test_the_page_is_what_the_newest_results_say():
    """Nobody edits the page by hand."""
    found = rows.decode((BENCH / "results" / "compare.jsonl").read_text().splitlines()[-1])
    docs = comparison_page.DOCS
    assert (docs / "comparison.md").read_text() == comparison_page.page(found)
    for batch in comparison_page.batches(found):
        drawn = comparison_plot.draw(found, batch)
        assert (docs / comparison_page.picture_name(batch)).read_text() == drawn


# Other processes


def test_a_relay_counts_each_direction_to_the_byte():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            link, _ = server.accept()
            with link:
                while data := link.recv(4096):
                    link.sendall(data * 2)

        threading.Thread(target=answer, daemon=True).start()
        with (
            relay(server.getsockname()[1]) as between,
            socket.create_connection(("127.0.0.1", between.port)) as link,
        ):
            for size in (1, 1000):
                link.sendall(b"x" * size)
                left = 2 * size
                while left:
                    left -= len(link.recv(left))
            assert between.counted() == (1001, 2002)


def test_what_is_not_installed_says_how_to_install_it(tmp_path):
    (tmp_path / "he" / "bin").mkdir(parents=True)
    (tmp_path / "he" / "bin" / "python").touch()  # begun, and not finished
    for engine in ("he", "mpc"):
        with pytest.raises(elsewhere.Absent, match=f"not installed here: make {engine}"):
            elsewhere.python_of(tmp_path, engine)


PROGRAM = """\
import sys
sys.path.insert(0, {folder!r})
from asked import answer_all
def answer(number):
    print("a library says something")
    if number < 0:
        raise SystemExit("it cannot go on")
    return {{"twice": 2 * number}}
answer_all(lambda: {{"version": "1"}}, answer)
"""


def test_a_program_is_asked_in_lines_and_its_last_words_are_told(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(folder=str(BENCH / "compare")))
    log = tmp_path / "log"
    with elsewhere.elsewhere(Path(sys.executable), script, log=log) as program:
        assert program.about == {"version": "1"}
        assert program.ask(number=4) == {"twice": 8}
        with pytest.raises(elsewhere.Absent, match="it cannot go on"):
            program.ask(number=-1)
        with pytest.raises(elsewhere.Absent, match="it cannot go on"):
            program.ask(number=1)


@pytest.mark.parametrize("name", ["mpc", "he"])
def test_a_lock_pins_by_hash_and_names_nobody_to_ask(name):
    text = (BENCH.parent / f"requirements-{name}.lock").read_text()
    pinned = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
    assert pinned
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in text
