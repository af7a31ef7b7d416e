"""Sealed tables: the pinned file alone opens, garbage says whose it is, nothing else is affected."""

import dataclasses
import re
import tracemalloc

import numpy as np
import onnxruntime
import pytest
from shared_world import A, B, Owner, csv_text, opened, plan_of, run

from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    WrongRecipient,
)
from wardian.learning.shared.columns import BATCH_ROWS, Kind, kinds_of

AGE, NAME = {"age": Kind.NUMBER}, {"name": Kind.TEXT}
BOTH = {**AGE, **NAME}


@pytest.fixture
def owners(tmp_path):
    ids = [f"p{at:03d}" for at in range(100)]
    a = {"id": ids, "age": range(100), "y": [at % 2 for at in range(100)]}
    b = {"id": ids[::-1], "cost": range(100)}
    return [Owner(A, tmp_path, csv_text(a)), Owner(B, tmp_path, csv_text(b))]


def refused(owners, kind, told: str, plan=None, **changes) -> None:
    """A job over these tables, the second changed, says that the second owner's is wrong."""
    from shared_world import JOB_ID, MEASUREMENT, SEED, agreed

    from wardian.learning.shared.running import run_job

    plan = plan or plan_of(owners, [["age"], ["cost"]], "logistic-regression")
    keys, terms = agreed(plan, owners)
    tables = [owners[0].sealed(), owners[1].sealed(**changes)]
    with pytest.raises(kind, match=told) as found:
        run_job(plan, keys, terms, tables, job_id=JOB_ID, seed=SEED, measurement=MEASUREMENT)
    assert str(found.value).startswith(f"{B}, table ")
    run(plan_of(owners[:1], [["age"]], "logistic-regression"), owners[:1])  # the other one works


def test_t14_only_the_pinned_file_opens(owners, tmp_path) -> None:
    (tmp_path / "old").mkdir()
    old = Owner(B, tmp_path / "old", csv_text({"id": ["p001"], "cost": [1]}))
    refused(owners, AuthenticationFailed, "not the file that is pinned", path=old.path)
    refused(owners, AuthenticationFailed, "not the file that is pinned", pin=old.pin)
    refused(owners, WrongRecipient, "opens|identit", key=Secret.random())
    refused(owners, ConfigError, "cannot be read", path=tmp_path / "nowhere")
    raw = bytearray(owners[1].path.read_bytes())
    for at, kinds in ((30, (AuthenticationFailed, FormatError)), (-40, AuthenticationFailed)):
        changed = bytearray(raw)
        changed[at] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        refused(owners, kinds, "sealed file", path=tmp_path / "changed")
    (tmp_path / "cut").write_bytes(raw[:-1])
    refused(owners, FormatError, "not of", path=tmp_path / "cut")


def test_a_table_of_another_name_or_type_does_not_open(owners, tmp_path) -> None:
    (tmp_path / "x").mkdir()
    other = Owner(B, tmp_path / "x", csv_text({"id": ["a"], "cost": [1]}), table="other")
    refused(
        owners, AuthenticationFailed, "sealed as", path=other.path, pin=other.pin, key=other.key
    )
    model = Owner(B, tmp_path / "x", b"\0", media_type="application/onnx")
    refused(owners, FormatError, "sealed as application/onnx", path=model.path, pin=model.pin)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": ["a", "b"], "cost": [1, "CANARY"]}, "column cost: what is no number"),
        ({"id": ["a", "b"], "price": [1, 2]}, "column cost: not there"),
        ({"id": ["CANARY", "CANARY"], "cost": [1, 2]}, "there before"),
        ({"id": ["a", ""], "cost": [1, 2]}, "a row has no identifier"),
        ({"id": ["a", "\u00e9" * 600], "cost": [1, 2]}, "each has 1 to 1024 bytes"),
        ({"id": ["a", "b" * 2000], "cost": [1, 2]}, "a field is longer than 1024"),
        ({"id": [], "cost": []}, "no rows"),
    ],
)
def test_garbage_names_the_table_and_tells_no_value(owners, tmp_path, columns, told) -> None:
    (tmp_path / "x").mkdir()
    wrong = Owner(B, tmp_path / "x", csv_text(columns))
    refused(owners, FormatError, told, path=wrong.path, pin=wrong.pin, key=wrong.key)


def test_the_tables_are_those_of_the_plan(owners) -> None:
    plan = plan_of(owners, [["age"], ["cost"]], "logistic-regression")
    for wrong in (owners[:1], [owners[0], owners[0]]):
        from shared_world import JOB_ID, MEASUREMENT, SEED, agreed

        from wardian.learning.shared.running import run_job

        keys, terms = agreed(plan, owners)
        tables = [each.sealed() for each in wrong]
        with pytest.raises(LocalProtocolError):
            run_job(plan, keys, terms, tables, job_id=JOB_ID, seed=SEED, measurement=MEASUREMENT)


def test_keys_are_in_no_text_of_a_table(owners) -> None:
    table = owners[0].sealed()
    assert owners[0].key.reveal().hex() not in repr(table)
    assert dataclasses.replace(table, name="other").name == "other"


def test_only_the_columns_of_the_plan_are_kept(owners) -> None:
    plan = plan_of(owners, [["age"], ["cost"]], "logistic-regression")
    found = owners[0].sealed().read(kinds_of(plan.inputs[0]))
    assert sorted(found) == ["age", "id", "y"]
    assert found["id"].dtype == object


def test_two_owners_may_call_columns_alike(tmp_path) -> None:
    ids = [f"p{at:03d}" for at in range(100)]
    a = Owner(
        A, tmp_path, csv_text({"id": ids, "age": range(100), "y": [at // 50 for at in range(100)]})
    )
    b = Owner(B, tmp_path, csv_text({"id": ids, "age": range(0, 200, 2)}))
    finished = run(plan_of([a, b], [["age"], ["age"]], "logistic-regression"), [a, b])
    assert opened(finished.held, "model", A)


def test_a_large_table_is_read_in_bounded_memory(tmp_path) -> None:
    rows = 3 * BATCH_ROWS
    lines = b"".join(b"p%07d,%d,%s\n" % (at, at % 90, b"x" * 160) for at in range(rows))
    owner = Owner(A, tmp_path, b"id,age,padding\n" + lines)
    size = owner.path.stat().st_size
    assert size > 30_000_000
    tracemalloc.start()
    seen = sum(len(batch["age"]) for batch in owner.sealed().batches({"age": Kind.NUMBER}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == rows
    assert peak < size / 1.5


def test_a_missing_value_is_for_trees_alone(tmp_path) -> None:
    ages = ["" if at % 10 == 0 else at for at in range(200)]
    owner = Owner(A, tmp_path, csv_text({"age": ages, "y": [at // 100 for at in range(200)]}))
    with pytest.raises(FormatError, match="column age: a value is missing"):
        run(plan_of([owner], [["age"]], "logistic-regression"), [owner])
    for trees in ("gradient-boosting", "random-forest"):
        finished = run(plan_of([owner], [["age"]], trees, parameters={"trees": 3}), [owner])
        model = opened(finished.held, "model", A)
        session = onnxruntime.InferenceSession(model)
        asked = np.array([[1], [199], [np.nan]], np.float32)
        _, labels = session.run(["probabilities", "label"], {"input": asked})
        assert labels.tolist()[:2] == [0, 1]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0.5, 1.5] * 50, "classes are whole numbers"),
        ([1] * 100, "too few rows have a class, or all have one"),
        ([0, ""] * 50, "a row has no label"),
        ([0, 2**40] * 50, "classes are whole numbers"),
    ],
)
def test_labels_of_classes(tmp_path, labels, told) -> None:
    owner = Owner(A, tmp_path, csv_text({"age": range(100), "y": labels}))
    with pytest.raises((FormatError, PolicyDenied), match=re.escape(told)):
        run(plan_of([owner], [["age"]], "logistic-regression"), [owner])


def test_parameters_out_of_range_are_said(tmp_path) -> None:
    owner = Owner(A, tmp_path, csv_text({"age": range(100), "y": [0, 1] * 50}))
    with pytest.raises(ConfigError, match="parameter `trees` is between"):
        plan_of([owner], [["age"]], "gradient-boosting", parameters={"trees": 0})


@pytest.mark.parametrize("largest", [1e308, 1e200, 1e39])
@pytest.mark.parametrize("algorithm", ["logistic-regression", "random-forest", "linear-regression"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_no_model_holds_end_the_job_in_one_way(tmp_path, largest, algorithm) -> None:
    values = [largest * (-1) ** at for at in range(100)]
    owner = Owner(A, tmp_path, csv_text({"age": values, "y": [at // 50 for at in range(100)]}))
    small = {"trees": 3} if algorithm == "random-forest" else {}
    plan = plan_of([owner], [["age"]], algorithm, parameters=small)
    told = ""
    try:
        run(plan, [owner])
    except FormatError as err:
        told = str(err)
    assert "e308" not in told
    assert "000000" not in told


def test_a_chunk_that_was_changed_in_the_middle_is_not_read(tmp_path) -> None:
    lines = b"".join(b"%d\n" % at for at in range(200_000))
    owner = Owner(A, tmp_path, b"age\n" + lines)
    raw = bytearray(owner.path.read_bytes())
    assert len(raw) > 4 * 2**18
    raw[2 * 2**18] ^= 1
    owner.path.write_bytes(raw)
    with pytest.raises(AuthenticationFailed, match=f"{A}, table"):
        owner.sealed().read(AGE)


def test_wardian_seal_knows_a_table_by_its_name(tmp_path) -> None:
    from click.testing import CliRunner

    from wardian.cli.files import read_secret, seal
    from wardian.crypto.sealed_file import Pin
    from wardian.learning.shared.tables import SealedTable

    clear = tmp_path / "records.csv"
    clear.write_bytes(csv_text({"age": [1, 2]}))
    done = CliRunner().invoke(seal, [str(clear), "--new-key", str(tmp_path / "k")])
    assert done.exit_code == 0, done.output
    pin = Pin.parse((tmp_path / "records.csv.sealed.pin").read_text().strip())
    table = SealedTable(
        owner=A, name="records", path=tmp_path / "records.csv.sealed", pin=pin,
        key=read_secret(tmp_path / "k"),
    )  # fmt: skip
    assert table.read({"age": Kind.NUMBER})["age"].tolist() == [1, 2]
