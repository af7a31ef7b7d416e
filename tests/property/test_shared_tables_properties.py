"""Tables of shared learning: what is written is read, whatever else is bytes is refused in one way."""

import csv
import importlib.util
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian.crypto.secret import Secret
from wardian.errors import FormatError
from wardian.learning.shared.columns import Kind
from wardian.learning.shared.csv_table import MISSING, csv_batches
from wardian.learning.shared.joining import sorted_rows
from wardian.learning.shared.parquet_table import parquet_batches

KINDS = {"age": Kind.NUMBER, "name": Kind.TEXT}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PIECES = st.sampled_from(
    [
        '"',
        ",",
        "\n",
        "\r",
        "\r\n",
        "age",
        "name",
        "1",
        "-",
        ".",
        "e",
        "NA",
        "x",
        "\ufeff",
        "\u2028",
        "\0",
    ]
)


def read(raw: bytes) -> dict[str, list]:
    batches = list(csv_batches(io.BytesIO(raw), KINDS))
    return {name: [each for batch in batches for each in batch[name].tolist()] for name in KINDS}


@given(
    rows=st.lists(st.tuples(NUMBERS, TEXTS, TEXTS), min_size=1, max_size=20),
    end=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(rows, end) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["age", "other", "name"])
    writer.writerows([repr(number), other, name] for number, other, name in rows)
    found = read(out.getvalue().encode())
    assert found["age"] == [number for number, _, _ in rows]
    assert found["name"] == [None if name in MISSING else name for _, _, name in rows]


@given(
    raw=st.binary(max_size=200)
    | st.lists(PIECES, max_size=40).map(lambda each: "".join(each).encode())
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_table_or_refused(raw: bytes) -> None:
    for content in (raw, b"age,name\n" + raw):
        try:
            found = read(content)
        except FormatError:
            continue
        assert len(found["age"]) == len(found["name"])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_rows_have_one_order_however_they_come(data) -> None:
    rows = data.draw(
        st.lists(
            st.tuples(st.sampled_from([0.0, 1.5, -2.0, np.nan]), st.sampled_from(["a", "b", None])),
            min_size=1, max_size=12,
        )
    )  # fmt: skip
    other = data.draw(st.permutations(rows))

    def ordered(some: list) -> list:
        words = np.empty(len(some), object)
        words[:] = [word for _, word in some]
        columns = {"n": np.array([number for number, _ in some]), "w": words}
        return [repr(some[at]) for at in sorted_rows(columns)]

    assert ordered(rows) == ordered(other)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_parquet_or_refused(data) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow or duckdb is not installed: pip install 'wardian[shared]'")
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"age": [1.0, None] * 50, "name": ["x", None] * 50}), file)
    raw = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        batches = parquet_batches(io.BytesIO(raw), KINDS, key=Secret(b"k" * 32), table="t")
        assert all(len(each["age"]) == len(each["name"]) for each in batches)
    except FormatError:
        pass
