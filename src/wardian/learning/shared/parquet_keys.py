"""Parquet's modular encryption with the key of a table: who holds that key reads it with pandas.

Every column, and the footer with the schema, is encrypted by AES-256-GCM under a data key of its
own, drawn by Arrow for each file. A data key stands in the file, wrapped (RFC 3394) under a master
key that is derived from the table's key for this table and this column alone. So nothing of another
table opens, and no service is asked for anything.

Source: Parquet, "Parquet Modular Encryption"; Arrow's key tools (`KmsClient`). Needs `pyarrow`.
"""

import base64
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Stanza, StanzaKind
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, WrongRecipient
from wardian.learning.shared.extra import extra

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet.encryption as pe

LABEL: Final = "wardian parquet master key v1"
ALGORITHM: Final = "AES_GCM_V1"
_FOOTER: Final = "footer"
_COLUMN: Final = "column "
_GROUP_ROWS: Final = 2**17


class TableKeys:
    """Arrow's properties of reading and writing one table, by its key. Keep it while in use."""

    __slots__ = ("_factory", "_table")

    def __init__(self, key: Secret, *, table: str) -> None:
        """Derive from `key`, 32 bytes, what `table` is encrypted with.

        Raises:
            ConfigError: pyarrow is not installed.
        """
        parquet = extra("pyarrow.parquet.encryption")

        class DerivedKeys(parquet.KmsClient):  # type: ignore[misc,name-defined]
            """Wraps data keys; the name of a master key says which one is derived."""

            def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
                return wrap(key, table, master_key_identifier, key_bytes)

            def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
                return unwrap(key, table, master_key_identifier, wrapped_key)

        self._factory = parquet.CryptoFactory(lambda _: DerivedKeys())
        self._table = table

    def encrypting(self, columns: Sequence[str]) -> "pe.FileEncryptionProperties":
        """Return what `pyarrow.parquet.write_table(encryption_properties=...)` takes.

        Args:
            columns: all of the table's, so that none stays in the clear.
        """
        parquet = extra("pyarrow.parquet.encryption")
        settings = parquet.EncryptionConfiguration(
            footer_key=_FOOTER,
            column_keys={f"{_COLUMN}{name}": [name] for name in columns},
            encryption_algorithm=ALGORITHM,
            plaintext_footer=False,
            double_wrapping=False,
            cache_lifetime=timedelta(0),
            data_key_length_bits=256,
        )
        return self._factory.file_encryption_properties(parquet.KmsConnectionConfig(), settings)

    def decrypting(self) -> "pe.FileDecryptionProperties":
        """Return what `pyarrow.parquet.ParquetFile(decryption_properties=...)` takes."""
        parquet = extra("pyarrow.parquet.encryption")
        settings = parquet.DecryptionConfiguration(cache_lifetime=timedelta(0))
        return self._factory.file_decryption_properties(parquet.KmsConnectionConfig(), settings)


def write_encrypted(table: "pa.Table", target: Any, *, key: Secret, name: str) -> None:
    """Leave `table` as Parquet at `target`, a path or a writable file, every column encrypted.

    Args:
        table: with columns that are not nested.
        target: what is there is replaced.
        key: of the table, 32 bytes.
        name: of the table; opening it needs the same.

    Raises:
        ConfigError: a column is nested, or has a `.` in its name, which Parquet takes for nesting:
            its values would stay in the clear.
    """
    schema = table.schema
    with _writer(schema, target, key=key, name=name) as writer:
        writer.write_table(table)


def encrypt_file(source: Path, target: BinaryIO, *, key: Secret, name: str) -> None:
    """Write the Parquet file `source`, in the clear, to `target` as `write_encrypted` does.

    Raises:
        ConfigError: as `write_encrypted`.
        FormatError: `source` is no Parquet file that can be read.
    """
    pa, pq = extra("pyarrow"), extra("pyarrow.parquet")
    try:
        with pq.ParquetFile(source) as file:
            schema = file.schema_arrow
            with _writer(schema, target, key=key, name=name) as writer:
                for batch in file.iter_batches(batch_size=_GROUP_ROWS):
                    writer.write_batch(batch)
    except (pa.ArrowException, OSError, ValueError) as err:
        raise FormatError(f"{source}: not a Parquet file that can be read") from err


def _writer(schema: "pa.Schema", target: Any, *, key: Secret, name: str) -> Any:
    """Return what writes rows of `schema`; errors as `write_encrypted`."""
    pq, types = extra("pyarrow.parquet"), extra("pyarrow.types")
    for field in schema:
        if "." in field.name or types.is_nested(field.type):
            raise ConfigError(f"column {field.name}: nested, or has a point in its name")
    properties = TableKeys(key, table=name).encrypting(schema.names)
    return pq.ParquetWriter(target, schema, encryption_properties=properties, store_schema=False)


def wrap(key: Secret, table: str, master: str, data_key: bytes) -> bytes:
    """Return `data_key` under the master key called `master`, base64 of 40 bytes for 32."""
    stanza = _master(key, table, master).wrap(Secret(data_key))
    return base64.b64encode(stanza.body)


def unwrap(key: Secret, table: str, master: str, wrapped: bytes | str) -> bytes:
    """Return the data key in `wrapped`, untrusted.

    Raises:
        FormatError: no wrapped key.
        WrongRecipient: of another table, column or key.
    """
    try:
        body = base64.b64decode(wrapped, validate=True)
    except ValueError as err:
        raise FormatError("parquet: a wrapped key is no base64") from err
    found = _master(key, table, master).unwrap(Stanza(kind=StanzaKind.BROKER_KEY, body=body))
    if found is None:
        raise WrongRecipient("parquet: this key does not open it")
    if len(found) not in (16, 24, 32):
        raise AuthenticationFailed("parquet: what is wrapped is no data key")
    return found.reveal()


def _master(key: Secret, table: str, master: str) -> BrokerKey:
    return BrokerKey(hkdf(key, salt=b"", info=wire.fields(LABEL, table.encode(), master.encode())))
