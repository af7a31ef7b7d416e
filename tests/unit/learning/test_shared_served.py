"""What a job says of the model that goes to be served is what a line of the manifest has to say."""

import dataclasses

import pytest
from shared_world import A, B, Owner, agreed, csv_text, plan_of
from toy_jobs import WORKER

from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError
from wardian.learning.shared.outputs import seal_outputs
from wardian.learning.shared.serving import describe_served


def test_the_model_that_is_served_is_described_from_its_own_header(tmp_path) -> None:
    ids = [f"id{at}" for at in range(100)]
    owners = [
        Owner(A, tmp_path, csv_text({"id": ids, "age": range(100), "y": [0, 1] * 50})),
        Owner(B, tmp_path, csv_text({"id": ids, "cost": range(100)})),
    ]
    columns, trained = [["age"], ["cost"]], "logistic-regression"
    plan = plan_of(owners, columns, trained, outputs={"model": [A], "serving": [WORKER]})
    terms = agreed(plan_of(owners, columns, trained), owners)[1]
    terms = dataclasses.replace(terms, serving=frozenset((WORKER,)))
    key = Secret.random()
    held = seal_outputs(plan, terms, {"model": b"a model"}, serving=key)
    party, served = held.outputs
    contents = held.release(())
    file = describe_served(served, contents[served.file_name], key=key)
    assert (file.name, file.version) == (plan.output_name("model"), 1)
    assert (file.media_type, file.total_bytes) == ("application/onnx", 7)
    assert (file.pin, file.key_id) == (str(served.pin), BrokerKey(key).key_id.hex())
    for entry, name in ((party, party.file_name), (served, party.file_name)):
        with pytest.raises(LocalProtocolError):
            describe_served(entry, contents[name], key=key)
