"""Keys of Parquet's columns, wrapped under the table's: needs no pyarrow."""

import pytest

from wardian.crypto.secret import Secret
from wardian.errors import FormatError, WrongRecipient
from wardian.learning.shared.parquet_keys import unwrap, wrap

KEY, OTHER = Secret(b"k" * 32), Secret(b"o" * 32)


def test_every_column_has_a_key_of_its_own() -> None:
    data_key = bytes(range(32))
    kept = wrap(KEY, "records", "column age", data_key)
    assert unwrap(KEY, "records", "column age", kept) == data_key
    for key, table, master in (
        (OTHER, "records", "column age"),
        (KEY, "claims", "column age"),
        (KEY, "records", "column bmi"),
        (KEY, "records", "footer"),
    ):
        with pytest.raises(WrongRecipient):
            unwrap(key, table, master, kept)
    with pytest.raises(FormatError):
        unwrap(KEY, "records", "footer", b"no base64!")
