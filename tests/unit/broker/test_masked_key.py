"""What a job tells of a served model's key: nothing, to whoever lacks the key of one table."""

from contextlib import closing
from pathlib import Path

import pytest
from toy_exports import FILE, MODEL_KEY, ExportBroker, Tell, serving_hospitals, statement
from toy_jobs import KEYS
from toy_mesh import MASTER_KEY
from toy_tables import PLACES, TABLE_KEYS, A, B

from wardian.broker.joint.kept import find_key, find_model
from wardian.broker.joint.masked import MaskedKey, mask_key, unmask_key
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.broker.tables.kept import KEYS as TABLES
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied

JOB = bytes(range(32))
TABLE = {"a/records": Secret(b"a" * 32), "b/claims": Secret(b"b" * 32)}
KEY = MODEL_KEY.key


def test_the_key_comes_back_and_is_not_what_is_told() -> None:
    told = mask_key(KEY, job_id=JOB, tables=TABLE)
    assert told.key_id == MODEL_KEY.key_id.hex()
    assert unmask_key(told, job_id=JOB, tables=dict(reversed(TABLE.items()))) == KEY
    assert told.masked != KEY.reveal()
    assert repr(told) == f"MaskedKey(key_id='{told.key_id}')"


def test_the_mask_that_the_protocol_page_gives() -> None:
    told = mask_key(Secret(bytes(32)), job_id=JOB, tables=TABLE)
    assert told.masked.hex() == "b1074968eb5fe242752154e17eac4b6983206088121283fd4c27cf75c76aa920"


@pytest.mark.parametrize(
    ("job_id", "tables"),
    [
        (JOB, {"a/records": TABLE["a/records"]}),
        (JOB, {"b/claims": TABLE["b/claims"]}),
        (JOB, TABLE | {"b/claims": Secret(b"c" * 32)}),
        (JOB, {"a/records": TABLE["b/claims"], "b/claims": TABLE["a/records"]}),
        (JOB, {"a/records": TABLE["a/records"], "b/other": TABLE["b/claims"]}),
        (JOB, TABLE | {"c/more": Secret(b"c" * 32)}),
        (bytes(32), TABLE),
    ],
)
def test_it_takes_every_table_s_key_in_its_place_and_the_job(
    job_id: bytes, tables: dict[str, Secret]
) -> None:
    told = mask_key(KEY, job_id=JOB, tables=TABLE)
    with pytest.raises(PolicyDenied) as caught:
        unmask_key(told, job_id=job_id, tables=tables)
    assert caught.value.rule == "export-key"


def test_no_two_keys_have_one_mask() -> None:
    """Else one model whose key came out would give another's."""
    other = Secret(b"another key".ljust(32))
    told, also = (mask_key(each, job_id=JOB, tables=TABLE) for each in (KEY, other))
    assert Secret(told.masked) ^ Secret(also.masked) != KEY ^ other
    with pytest.raises(PolicyDenied):
        unmask_key(MaskedKey(key_id=told.key_id, masked=also.masked), job_id=JOB, tables=TABLE)


def test_t7_other_code_that_takes_the_broker_over_while_a_job_runs_is_told_no_key(
    tmp_path: Path,
) -> None:
    """It has CA and log, so the job tells it; and the keys of the one owner who signed for it."""
    broker = ExportBroker(serving_hospitals(), tmp_path / "broker.db")
    tell = Tell(broker, statement(broker.granted()))
    tell.challenge()
    tell.attest()
    proof = tell.session.receive(tell.m3, now=broker.now)
    masked = tell.session.told(proof).key
    assert masked is not None
    told = MaskedKey(key_id=FILE.key_id, masked=masked)
    job_id = bytes.fromhex(tell.told.job)
    owners = {owner: KEYS[owner].public.hex() for owner in (A, B)}
    alone = MasterKey.from_secret(MASTER_KEY.share_with(frozenset({owners[A]})))
    broker.close()
    with closing(Store(broker.path, master_key=alone, counter=broker.counter.seam)) as store:
        places = {owner: f"{owners[owner]}/{TABLE_KEYS[owner].key_id.hex()}" for owner in owners}
        assert store.get(TABLES, places[A]) == TABLE_KEYS[A].key.reveal()
        assert store.get(TABLES, places[B]) is None
    had = {PLACES[A]: TABLE_KEYS[A].key}
    for guess in (had, had | {PLACES[B]: Secret(bytes(32))}, had | {PLACES[B]: had[PLACES[A]]}):
        with pytest.raises(PolicyDenied):
            unmask_key(told, job_id=job_id, tables=guess)
    broker.start()  # the owners' own broker, whoever else was told
    broker.tell(tell.told)
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    assert find_key(broker.store, model) == KEY
    broker.close()
