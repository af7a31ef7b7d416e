"""Compares records of ours with those of `bigdl-serving` 2.4.0, by its pyarrow; prints JSON.

Run by a Python that has it: python their_arrow.py FILE. The file has a line for each record: what
was enqueued, and the `data` that we wrote. The answer has what pyarrow reads of either.
"""

import contextlib
import io
import json
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pyarrow as pa
from bigdl.serving.client import InputQueue


def value(told):
    kind, *parts = told
    if kind == "dense":
        return np.array(parts[0], parts[2]).reshape(parts[1])
    if kind == "sparse":
        return [np.array(parts[0]), np.array(parts[1]), np.array(parts[2])]
    return parts[0]


def content(payload):
    """Return the values of each column, whatever the rows in which they stand."""
    batches = list(pa.ipc.open_stream(b64decode(payload)))
    assert len(batches) == 1
    batches[0].validate(full=True)
    found = {}
    for field, column in zip(batches[0].schema, batches[0].columns, strict=True):
        if pa.types.is_struct(field.type):
            found[field.name] = {
                part.name: [str(part.type.value_type), column.field(i).flatten().to_pylist()]
                for i, part in enumerate(field.type)
            }
        else:
            found[field.name] = [str(field.type), column.to_pylist()]
    return found


def main():
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = InputQueue(host="localhost", port="1")
    for line in Path(sys.argv[1]).read_text().splitlines():
        record = json.loads(line)
        enqueued = {name: value(each) for name, each in record["columns"].items()}
        told = {"ours": content(record["ours"])}
        with contextlib.suppress(ValueError):  # not every record has a form there
            told["theirs"] = content(theirs.data_to_b64(**enqueued))
        print(json.dumps(told))


main()
