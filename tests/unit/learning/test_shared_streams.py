"""What is learnt from sealed tables pass by pass is what is learnt from the pooled clear one."""

import csv
import importlib.util
import io
import tracemalloc

import numpy as np
import onnxruntime
import pytest
from shared_world import (
    CSV,
    PARQUET,
    SEED,
    A,
    B,
    C,
    Owner,
    agreed,
    cancer,
    csv_text,
    metrics,
    opened,
    plan_of,
    run,
    trained,
)

from wardian.errors import FormatError, LocalProtocolError, PolicyDenied
from wardian.learning.shared import csv_table, running
from wardian.learning.shared.rows import Batch, SealedRows, even_batches
from wardian.learning.shared.running import source
from wardian.learning.shared.seeds import Seeds
from wardian.learning.shared.trainers import newton

HAS = {
    name: importlib.util.find_spec(name) is not None
    for name in ("pyarrow", "duckdb", "xgboost", "torch")
}
NAMES = [f"c{at:02d}" for at in range(30)]


def parquet(columns) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), out, row_group_size=50)
    return out.getvalue()


def owners_of(folder, data, label, cuts, names=(A, B, C), *, mixed: bool = True) -> list[Owner]:
    found = []
    folder.mkdir(exist_ok=True)
    rows = np.split(np.arange(len(data)), cuts)
    for at, (name, mine) in enumerate(zip(names, rows, strict=False)):
        columns = {each: data[mine, place] for place, each in enumerate(NAMES[: data.shape[1]])}
        if label is not None:
            columns["y"] = label[mine]
        kind = PARQUET if at == 1 and mixed and HAS["pyarrow"] else CSV
        content = parquet(columns) if kind == PARQUET else csv_text(columns)
        found.append(Owner(name, folder, content, media_type=kind))
    return found


def stacked(owners, algorithm, parameters=None, *, columns: int = 30, label="y"):
    if algorithm == "k-means":
        outputs = {"outputs": {"model": [A], "metrics": [A, B]}}
        label = None
    else:
        outputs = {}
    return plan_of(
        owners,
        [NAMES[:columns]] * len(owners),
        algorithm,
        kind="stack",
        label=label,
        parameters=parameters,
        **outputs,
    )


EXACT = [
    ("logistic-regression", {"l2": 0.5}, 2),
    ("logistic-regression", {}, 3),
    ("linear-regression", {}, 2),
    ("k-means", {"clusters": 4}, None),
]


@pytest.mark.parametrize(("algorithm", "parameters", "classes"), EXACT)
def test_no_order_and_no_split_of_rows_changes_a_bit(
    tmp_path, algorithm, parameters, classes
) -> None:
    data, target, _ = cancer()
    if classes is None:
        target = None
    elif classes == 3:
        target = target + 2 * (data[:, 0] > 15)
    least = 1  # it is asked of each owner's rows
    pooled = trained(algorithm, data, target, parameters, smallest_cohort=least)
    order = np.random.default_rng(3).permutation(len(data))
    for at, (rows, cuts) in enumerate(((np.arange(569), [100, 333]), (order, [7, 560]))):
        label = None if target is None else target[rows]
        owners = owners_of(tmp_path / str(at), data[rows], label, cuts)
        plan = stacked(owners, algorithm, parameters)
        finished = run(plan, owners, smallest_cohort=least)
        assert opened(finished.held, "model", A) == pooled.model
        if at == 0 or algorithm == "k-means":  # which fifth is tried goes by the order of rows
            assert metrics(finished) == pooled.metrics


def test_another_owner_fills_no_cluster_up_with_rows_that_it_knows(tmp_path) -> None:
    """A centre is a mean of all its rows: theirs taken off it, one row was left as it was."""
    near, far = np.random.default_rng(1).normal(size=(100, 2)), np.full((1, 2), 50.0)
    for at, (mine, clusters) in enumerate((([near, far], 1), ([near, far.repeat(5, 0)], 2))):
        theirs = np.vstack([near, far.repeat(20, 0)])
        data = np.vstack([*mine, theirs])
        owners = owners_of(tmp_path / str(at), data, None, [len(data) - 120], names=(A, B))
        plan = stacked(owners, "k-means", {"clusters": 2}, columns=2)
        found = metrics(run(plan, owners))
        assert (found["clusters"], sum(found["rows"])) == (clusters, len(data))


ORDERED = [
    ("xgboost", {"trees": 10}, 2),
    ("xgboost", {"trees": 4, "depth": 3}, 3),
    ("dense-network", {"hidden": 8, "epochs": 5, "batch": 32}, 2),
]


@pytest.mark.parametrize(("algorithm", "parameters", "classes"), ORDERED)
def test_what_learns_in_an_order_learns_the_same_of_one_table_as_of_several(
    tmp_path, algorithm, parameters, classes
) -> None:
    if not HAS["xgboost" if algorithm == "xgboost" else "torch"]:
        pytest.skip(f"the library behind {algorithm} is not installed")
    data, target, _ = cancer()
    target = target + 2 * (data[:, 0] > 15) if classes == 3 else target
    pooled = trained(algorithm, data, target, parameters, smallest_cohort=1)
    owners = owners_of(tmp_path / "a", data, target, [100, 333])
    finished = run(stacked(owners, algorithm, parameters), owners, smallest_cohort=1)
    assert opened(finished.held, "model", A) == pooled.model
    assert metrics(finished) == pooled.metrics
    assert trained(algorithm, data, target, parameters, smallest_cohort=1) == pooled
    session = onnxruntime.InferenceSession(pooled.model)
    (found,) = session.run(["label"], {"input": data.astype(np.float32)})
    assert (found == target).mean() > 0.9


def test_batches_are_cut_alike_wherever_files_end() -> None:
    values = np.arange(103.0)

    def pieces(*sizes: int):
        begin = 0
        for size in sizes:
            part = values[begin : begin + size]
            sources = np.zeros(len(part), np.uint8)
            yield Batch(columns={"x": part}, label=part, sources=sources, rows=len(part))
            begin += size

    for sizes in ((103,), (1, 2, 100), (50, 53), (40, 3, 20, 40)):
        found = list(even_batches(pieces(*sizes), rows=20))
        assert [each.rows for each in found] == [20, 20, 20, 20, 20, 3]
        for of in ([each.columns["x"] for each in found], [each.label for each in found]):
            assert np.concatenate(of).tolist() == values.tolist()


def test_statistics_of_stacked_tables_are_exact_with_and_without_groups(tmp_path) -> None:
    if not (HAS["duckdb"] and HAS["pyarrow"]):
        pytest.skip("the extra `shared` is not installed: `make shared`")
    chance = np.random.default_rng(1)
    wards = np.array(["north", "south", None])[chance.integers(0, 3, 300)]
    cost = np.where(chance.random(300) < 0.1, np.nan, chance.normal(size=300) * 1e3 + 1e6)
    found = []
    for at, (order, cuts) in enumerate(
        ((np.arange(300), [100, 200]), (chance.permutation(300), [13, 37]))
    ):
        folder = tmp_path / str(at)
        folder.mkdir()
        owners = [
            Owner(
                name,
                folder,
                csv_text(
                    {
                        "ward": ["" if each is None else each for each in wards[rows]],
                        "cost": ["" if np.isnan(each) else each for each in cost[rows]],
                    }
                ),
            )
            for name, rows in zip((A, B, C), np.split(order, cuts), strict=True)
        ]
        for by in ("", "ward"):
            used = ["ward", "cost"] if by else ["cost"]
            plan = plan_of(
                owners, [used] * 3, "statistics", kind="stack", label=None, parameters={"by": by}
            )
            told = run(plan, owners, smallest_cohort=1)  # it is asked of each owner's rows
            found.append(opened(told.held, "aggregates", A))
    assert found[:2] == found[2:]
    rows = {row["ward"]: row for row in csv.DictReader(io.StringIO(found[1].decode()))}
    assert set(rows) == {"north", "south", ""}
    for ward in ("north", "south"):
        own = cost[(wards == ward) & ~np.isnan(cost)]
        assert int(rows[ward]["rows"]) == len(own)
        assert float(rows[ward]["mean"]) == pytest.approx(own.mean(), rel=1e-14)
        assert float(rows[ward]["deviation"]) == pytest.approx(own.std(ddof=1), rel=1e-9)


def test_stacked_tables_are_never_in_memory_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(csv_table, "BATCH_ROWS", 2**9)
    peaks = []
    for rows in (2_000, 32_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        text = ",".join([*NAMES[:8], "y"]) + "\n" + "0.5,1,2,3,4,5,6,7,1\n" * (rows // 2)
        owners = [Owner(name, folder, text.encode()) for name in (A, B)]
        plan = stacked(owners, "linear-regression", columns=8)
        _, terms = agreed(plan, owners)
        held = source(plan, [each.sealed() for each in owners], terms, Seeds(SEED, plan))
        assert isinstance(held, SealedRows)
        with pytest.raises(LocalProtocolError):
            _ = held.rows
        tracemalloc.start()
        assert max(each.rows for each in held.batches()) == 2**9
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert held.rows == rows
    assert peaks[1] < peaks[0] + 3 * 2**18  # buffers of a chunk; the table is 2.3 MB


def test_too_few_rows_train_nothing_and_a_row_without_label_is_its_owners(
    tmp_path, monkeypatch
) -> None:
    data, target, _ = cancer()
    owners = owners_of(tmp_path / "a", data, target, [100, 333])
    plan = stacked(owners, "logistic-regression")
    trainings = []
    monkeypatch.setattr(newton.Logistic, "_pass", lambda *_: trainings.append(1))
    for output, rule in (
        ({"smallest_join": 570}, "join-small"),
        ({"smallest_cohort": 570}, "cohort-small"),
        ({"smallest_cohort": 300}, "cohort-small"),
    ):
        with pytest.raises(PolicyDenied) as refused:
            run(plan, owners, **output)
        assert refused.value.rule == rule
    label = target.astype(float)
    label[200] = np.nan
    owners = owners_of(tmp_path / "b", data, label, [100, 333], mixed=False)
    text = owners[1]
    with pytest.raises(FormatError, match=f"{B}, table {text.table}"):
        run(stacked(owners, "logistic-regression"), owners)
    assert trainings == []


def test_a_trainer_that_forgets_the_smallest_join_gives_out_nothing(tmp_path, monkeypatch) -> None:
    """`run_job` asks again, behind training, before anything is sealed."""
    from wardian.learning.shared.trainers.trained import Trained

    data, target, _ = cancer()
    owners = owners_of(tmp_path / "a", data, target, [100, 333])
    plan = stacked(owners, "linear-regression")

    def forgetful(task):
        for _ in task.rows.batches():
            pass
        return Trained(model=b"m", metrics={})

    monkeypatch.setitem(running.FUNCTIONS, "linear-regression", forgetful)
    with pytest.raises(PolicyDenied) as refused:
        run(plan, owners, smallest_join=570)
    assert refused.value.rule == "join-small"


def test_rows_matched_by_identifiers_are_learnt_from_as_rows_in_files_are(tmp_path) -> None:
    data, target, ids = cancer()
    a = Owner(A, tmp_path, csv_text({"id": ids, "y": target, "c00": data[:, 0]}))
    b = Owner(B, tmp_path, csv_text({"id": ids, "c01": data[:, 1]}))
    finished = run(plan_of([a, b], [["c00"], ["c01"]], "logistic-regression"), [a, b])
    pooled = trained("logistic-regression", data[:, :2], target)
    assert opened(finished.held, "model", A) == pooled.model


def test_nothing_is_written_while_training(tmp_path, monkeypatch) -> None:
    if not HAS["xgboost"]:
        pytest.skip("xgboost is not installed")
    data, target, _ = cancer()
    owners = owners_of(tmp_path / "a", data, target, [100, 333])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.chdir(scratch)
    for name in ("TMPDIR", "TMP", "TEMP"):
        monkeypatch.setenv(name, str(scratch))
    before = scratch.stat().st_mtime_ns
    run(stacked(owners, "xgboost", {"trees": 3}), owners)
    assert list(scratch.iterdir()) == []
    assert scratch.stat().st_mtime_ns == before  # nor was there anything for a while
