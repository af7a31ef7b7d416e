"""CSV is read strictly, and what is none is refused without a value of it."""

import io

import numpy as np
import pytest

from wardian.errors import FormatError
from wardian.learning.shared import csv_table
from wardian.learning.shared.columns import Kind

AGE, NAME = {"age": Kind.NUMBER}, {"name": Kind.TEXT}
BOTH = {**AGE, **NAME}


def read(raw: bytes, kinds=None):
    (batch,) = csv_table.csv_batches(io.BytesIO(raw), kinds or BOTH)
    return {name: values.tolist() for name, values in batch.items()}


def test_csv_is_read_by_name_and_kind() -> None:
    raw = b'\xef\xbb\xbfname,secret,age\r\n"a,""b""\n c",x,1\r\n007,y,-2.5e1\nNA,z,\n'
    found = read(raw)
    assert found["name"] == ['a,"b"\n c', "007", None]
    assert found["age"][:2] == [1.0, -25.0]
    assert np.isnan(found["age"][2])
    assert read(b"age\n1\n", AGE) == {"age": [1.0]}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "column age: not there"),
        (b"name\nx\n", "column age: not there"),
        (b"age,age,name\n1,2,x\n", "column age: twice"),
        (b"age,name\n1\n", "line 2: 1 fields, not 2"),
        (b"age,name\n1,x,y\n", "line 2: 3 fields, not 2"),
        (b"age,name\nCANARY,x\n", "column age: what is no number"),
        (b"age,name\n 1,x\n", "column age: what is no number"),
        (b"age,name\n1_000,x\n", "column age: what is no number"),
        (b"age,name\nnan,x\n", "column age: what is no number"),
        (b"age,name\ninf,x\n", "column age: what is no number"),
        (b"age,name\n1e999,x\n", "column age: what is no number"),
        ("age,name\n\u0661,x\n".encode(), "column age: what is no number"),
        (b"age,name\n0x10,x\n", "column age: what is no number"),
        (b'age,name\n1,"x\n', "not CSV"),
        (b'age,name\n1,"x"y\n', "not CSV"),
        (b"age,name\n1,\xff\xfe\n", "not UTF-8"),
        (b"age,name\n1,x\0y\n", "NUL"),
        (b"age,name\n1," + b"x" * 70_000 + b"\n", "a field is longer"),
        (b"age,name\n1," + b"x" * 2_000_000 + b"\n", "a line is longer"),
        (b'age,name\n1,"' + b"x\n" * 100_000 + b'"\n', "not CSV"),
        (b"age,name\n1," + b"x" * 1025 + b"\n", "a field is longer"),
        (b'age,name\n1,"' + b'\nx","' * 300_000, "a record of several lines is longer"),
        (b'age,name,"' + b'\nx","' * 300_000, "a record of several lines is longer"),
        (b",".join(b"c%d" % at for at in range(5000)) + b"\n", "more than 4096 columns"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not UTF-8|NUL"),
    ],
)
def test_what_is_no_table_is_refused_without_a_value_of_it(raw: bytes, told: str) -> None:
    with pytest.raises(FormatError, match=told) as refused:
        list(csv_table.csv_batches(io.BytesIO(raw), BOTH))
    assert "CANARY" not in str(refused.value)


def test_a_batch_of_long_texts_has_fewer_rows() -> None:
    """A table of 65536 texts of the longest kind was held whole before it was looked at."""
    lines = b"".join(b"1,%s\n" % (b"x" * 1000) for _ in range(70_000))
    batches = csv_table.csv_batches(io.BytesIO(b"age,name\n" + lines), BOTH)
    rows = [len(each["age"]) for each in batches]
    assert max(rows) < 2**16 + 1
    assert max(rows) * 1000 < csv_table.MAX_HELD + 2000
    assert sum(rows) == 70_000
