"""Parquet, sealed as it is or encrypted by column; needs `pyarrow`, of the extra `shared`."""

import importlib.util
import io

import numpy as np
import pytest
from shared_world import PARQUET, A, B, Owner, csv_text, opened, plan_of, run

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError, WrongRecipient
from wardian.learning.shared.columns import Kind
from wardian.learning.shared.parquet_keys import TableKeys, write_encrypted
from wardian.learning.shared.parquet_table import parquet_batches

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KEY, OTHER = Secret(b"k" * 32), Secret(b"o" * 32)
CANARY = "CANARY-of-a-patient"


@pytest.fixture
def pa():
    if importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow or duckdb is not installed: pip install 'wardian[shared]'")
    return importlib.import_module("pyarrow")


def patients(pa, rows: int = 200):
    return pa.table(
        {
            "id": [f"{CANARY}-{at}" for at in range(rows)],
            "age": pa.array([at % 90 for at in range(rows)], pa.int16()),
            "bmi": [20 + at / 7 for at in range(rows)],
            "y": [at % 2 == 0 for at in range(rows)],
        }
    )


def encrypted(pa, **changes) -> bytes:
    file = io.BytesIO()
    write_encrypted(patients(pa), file, **{"key": KEY, "name": "records", **changes})
    return file.getvalue()


def written(pa, table, **settings) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, **settings)
    return file.getvalue()


def test_pandas_and_polars_read_it_with_the_key_and_nobody_without(pa) -> None:
    import pyarrow.parquet as pq

    raw = encrypted(pa)
    keys = TableKeys(KEY, table="records")
    table = pq.read_table(io.BytesIO(raw), decryption_properties=keys.decrypting())
    assert table.equals(patients(pa))
    if importlib.util.find_spec("pandas"):
        import pandas as pd

        frame = pd.read_parquet(
            io.BytesIO(raw), engine="pyarrow", decryption_properties=keys.decrypting()
        )
        assert frame["age"].sum() == sum(at % 90 for at in range(200))
    if importlib.util.find_spec("polars"):
        import polars as pl

        assert pl.from_arrow(table)["bmi"].len() == 200
    with pytest.raises(OSError, match="encrypted"):
        pq.read_table(io.BytesIO(raw))
    for key, name in ((OTHER, "records"), (KEY, "claims")):
        with pytest.raises(WrongRecipient):
            pq.read_table(
                io.BytesIO(raw), decryption_properties=TableKeys(key, table=name).decrypting()
            )


def test_no_value_and_no_name_of_a_column_is_in_the_file(pa) -> None:
    clear, raw = written(pa, patients(pa), compression="none"), encrypted(pa)
    for canary in (CANARY.encode(), b"bmi"):
        assert canary in clear
        assert canary not in raw
    assert KEY.reveal() not in raw


def test_what_would_stay_in_the_clear_is_not_written(pa) -> None:
    for table in (pa.table({"a.b": [1]}), pa.table({"a": [[1, 2]]}), pa.table({"a": [{"b": 1}]})):
        with pytest.raises(ConfigError, match="nested"):
            write_encrypted(table, io.BytesIO(), key=KEY, name="records")


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_a_job_learns_the_same_from_parquet_as_from_csv(pa, tmp_path, kind: str) -> None:
    table = patients(pa)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["y"] = [int(each) for each in columns["y"]]
    (tmp_path / "csv").mkdir()
    of_csv = Owner(A, tmp_path / "csv", csv_text(columns))
    of_parquet = Owner(A, tmp_path, b"", media_type=PARQUET)
    if kind == "plain":
        content = written(pa, table, row_group_size=64)
    else:
        file = io.BytesIO()
        write_encrypted(table, file, key=of_parquet.key, name=of_parquet.table)
        content = file.getvalue()
    again = _sealed_again(of_parquet, content)
    models = [
        opened(
            run(plan_of([each], [["age", "bmi"]], "logistic-regression"), [each]).held, "model", A
        )
        for each in (of_csv, again)
    ]
    assert models[0] == models[1] is not None
    assert CANARY.encode() not in again.path.read_bytes()


def _sealed_again(owner: Owner, content: bytes) -> Owner:
    """Seal other content to the same key."""
    from wardian.crypto.recipients import BrokerKey
    from wardian.crypto.sealed_file import save_sealed

    owner.pin = save_sealed(
        io.BytesIO(content), owner.path, total_bytes=len(content),
        recipients=[BrokerKey(owner.key)], media_type=PARQUET, name=owner.table, version=1,
    )  # fmt: skip
    return owner


def test_batches_are_bounded_and_hold_the_columns_that_are_asked_for(pa, tmp_path) -> None:
    rows = 150_000
    table = pa.table({"x": np.arange(rows, dtype=np.float64), "secret": [CANARY] * rows})
    owner = Owner(A, tmp_path, written(pa, table, row_group_size=40_000), media_type=PARQUET)
    batches = list(owner.sealed().batches({"x": Kind.NUMBER}))
    assert max(len(each["x"]) for each in batches) <= 2**16
    assert np.concatenate([each["x"] for each in batches]).tolist() == list(range(rows))
    assert all(list(each) == ["x"] for each in batches)


def test_kinds_of_columns(pa, tmp_path) -> None:
    from decimal import Decimal

    table = pa.table(
        {
            "id": pa.array([7, 8], pa.int64()),
            "word": pa.array(["a", None]).dictionary_encode(),
            "money": [Decimal("1.25"), None],
            "flag": [True, None],
        }
    )
    owner = Owner(A, tmp_path, written(pa, table), media_type=PARQUET)
    text, number = Kind.TEXT, Kind.NUMBER
    found = owner.sealed().read({"id": text, "word": text, "money": number, "flag": number})
    assert found["id"].tolist() == ["7", "8"]
    assert found["word"].tolist() == ["a", None]
    assert found["money"][0] == 1.25
    assert found["flag"][0] == 1.0
    assert np.isnan([found["money"][1], found["flag"][1]]).all()


def test_one_long_text_does_not_become_as_many_as_there_are_rows(pa) -> None:
    long, short = pa.array(["x" * 2000]), pa.array(["", "x" * 1024, None])
    places = pa.array([0] * 65_536, pa.int32())
    for column in (pa.DictionaryArray.from_arrays(places, long), pa.array(["x" * 2000] * 10)):
        raw = written(pa, pa.table({"id": column}))
        assert len(raw) < 30_000
        with pytest.raises(FormatError, match="a text is longer than 1024"):
            list(parquet_batches(io.BytesIO(raw), {"id": Kind.TEXT}, key=KEY, table="t"))
    raw = written(pa, pa.table({"id": short, "n": [1, 2, 3]}))
    kinds = {"id": Kind.TEXT, "n": Kind.TEXT}
    (batch,) = parquet_batches(io.BytesIO(raw), kinds, key=KEY, table="t")
    assert batch["id"].tolist() == [None, "x" * 1024, None]  # an empty text is none, as in CSV
    assert batch["n"].tolist() == ["1", "2", "3"]


def test_garbage_names_the_owner(pa, tmp_path) -> None:
    import datetime as dt

    cases = {
        "no Parquet at all": (b"x" * 500, "not a Parquet file"),
        "cut": (written(pa, patients(pa))[:-30], "not a Parquet file"),
        "changed": (_changed(written(pa, patients(pa))), "not a Parquet file|column"),
        "of dates": (written(pa, pa.table({"age": [dt.date(2020, 1, 1)], "y": [1.0]})), "column age: not of numbers"),
        "of texts": (written(pa, pa.table({"age": [CANARY], "y": [1.0]})), "column age: not of numbers"),
        "too large": (written(pa, pa.table({"age": [2**60 + 1], "y": [1.0]})), "does not fit"),
        "not finite": (written(pa, pa.table({"age": [float("inf")], "y": [1.0]})), "not finite"),
        "nested": (written(pa, pa.table({"age": [[1.0]], "y": [1.0]})), "not of numbers"),
        "without the column": (written(pa, pa.table({"y": [1.0]})), "column age: not there"),
        "of another's key": (encrypted(pa, name=f"table-of-{A}"), "does not open"),
    }  # fmt: skip
    for at, (what, (content, told)) in enumerate(cases.items()):
        (tmp_path / str(at)).mkdir()
        owner = Owner(A, tmp_path / str(at), content, media_type=PARQUET)
        with pytest.raises((FormatError, WrongRecipient), match=told) as refused:
            run(plan_of([owner], [["age"]], "logistic-regression"), [owner])
        assert str(refused.value).startswith(f"{A}, table table-of-{A}: "), what
        assert CANARY not in str(refused.value)


def _changed(raw: bytes) -> bytes:
    changed = bytearray(raw)
    changed[len(raw) // 3 : len(raw) // 3 + 40] = b"\xff" * 40
    changed[-60:-50] = b"\xff" * 10
    return bytes(changed)


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    owner = Owner(B, tmp_path, b"PAR1", media_type=PARQUET)
    with pytest.raises(ConfigError, match=r"wardian\[shared\]"):
        owner.sealed().read({"x": Kind.NUMBER})


def test_a_chunk_that_was_changed_in_the_middle_is_not_read(pa, tmp_path) -> None:
    from wardian.errors import AuthenticationFailed

    table = pa.table({"x": np.random.default_rng(1).random(200_000)})
    owner = Owner(A, tmp_path, written(pa, table), media_type=PARQUET)
    raw = bytearray(owner.path.read_bytes())
    raw[2 * 2**18] ^= 1
    owner.path.write_bytes(raw)
    with pytest.raises(AuthenticationFailed, match=f"{A}, table"):
        owner.sealed().read({"x": Kind.NUMBER})


def test_wardian_seal_encrypts_the_columns_of_a_file_and_a_job_reads_it(pa, tmp_path) -> None:
    import pyarrow.parquet as pq
    from click.testing import CliRunner

    from wardian.cli.files import read_secret, seal
    from wardian.crypto.sealed_file import Pin
    from wardian.learning.shared.tables import SealedTable

    clear, key = tmp_path / "records.parquet", tmp_path / "table.key"
    clear.write_bytes(written(pa, patients(pa), row_group_size=50))
    done = CliRunner().invoke(seal, [str(clear), "--parquet", "--new-key", str(key)])
    assert done.exit_code == 0, done.output
    encrypted_file, sealed = (
        tmp_path / "records.parquet.encrypted",
        tmp_path / "records.parquet.sealed",
    )
    assert CANARY.encode() not in encrypted_file.read_bytes() + sealed.read_bytes()
    secret = read_secret(key)
    keys = TableKeys(secret, table="records")
    found = pq.read_table(encrypted_file, decryption_properties=keys.decrypting())
    assert found.equals(patients(pa))
    pin = Pin.parse((tmp_path / "records.parquet.sealed.pin").read_text().strip())
    table = SealedTable(owner=A, name="records", path=sealed, pin=pin, key=secret)
    assert table.read({"age": Kind.NUMBER})["age"].sum() == sum(at % 90 for at in range(200))
    clear.write_bytes(b"no Parquet")
    for how in (["--to", "ab" * 32], ["--key", str(key)]):
        refused = CliRunner().invoke(seal, [str(clear), "--parquet", *how])
        assert refused.exit_code != 0
    assert pq.read_table(encrypted_file, decryption_properties=keys.decrypting()).num_rows == 200
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == []


def test_a_group_of_rows_as_large_as_the_file_is_read_piece_by_piece(pa, tmp_path) -> None:
    """What is held is a buffer of each column, however large its owner made the groups."""
    from wardian.learning.shared.parquet_table import parquet_batches

    rows = 300_000
    values = np.random.default_rng(1).normal(size=(4, rows))
    raw = written(
        pa,
        pa.table(dict(zip("abcd", values, strict=True))),
        row_group_size=rows,
        compression="none",
        use_dictionary=False,
    )

    class Watched(io.BytesIO):
        longest = 0

        def read(self, size: int = -1, /) -> bytes:
            found = super().read(size)
            Watched.longest = max(Watched.longest, len(found))
            return found

    kinds = dict.fromkeys("abcd", Kind.NUMBER)
    found = list(parquet_batches(Watched(raw), kinds, key=KEY, table="records"))
    assert sum(len(each["a"]) for each in found) == rows
    assert max(len(each["a"]) for each in found) == 2**16
    assert (np.concatenate([each["d"] for each in found]) == values[3]).all()
    assert Watched.longest <= 2**20 + 2**16 < rows * 8
