"""What was learnt is published sealed, whole or not at all, and a model that cannot be is kept."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wardian._internal.agreed import Agreed
from wardian._internal.settings import parse
from wardian.cli.files import read_secret
from wardian.cli.learning.arrays_file import encode_arrays, read_arrays
from wardian.cli.learning.kept import KEY, PIN, SEALED, forget_model, keep_model, kept_model
from wardian.cli.learning.publication import Servable, write_deployment
from wardian.cli.main import cli
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.up.example import Source
from wardian.cli.up.sealed import take_sealed
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.errors import ConfigError, FormatError
from wardian.inference.model import load_model
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord

APP = """\
import numpy as np
from wardian.learning.app import ClientApp
from wardian.learning.arrays import ArrayRecord
from wardian.learning.layers import classifier
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict

app = ClientApp()
weight = np.random.default_rng(3).standard_normal((8, 3))


@app.query()
def first(message, context):
    arrays = ArrayRecord({"file": np.zeros((8, 3)), "bias": np.arange(3.0)})
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


@app.train()
def train(message, context):
    given = message.content["arrays"]
    arrays = ArrayRecord({"file": given["file"] + weight, "bias": given["bias"]})
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
"""
EXPORT = """

@app.export()
def servable(arrays, context):
    labels = [4, 5, context.run_config["third"]]
    return classifier([(arrays["file"], arrays["bias"])], labels=labels)
"""
PLAN = f"""\
name = "three"
run = {{ rounds = 2, quorum = 1 }}
strategy = {{ name = "fedavg" }}
app = {{ third = 6 }}
parties = {{ a = {{ key = "{"ab" * 32}" }} }}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP + EXPORT)
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def fl(command: str, place: Path, *arguments: object) -> Result:
    files = ("--app", place / "app.py", "--consortium", place / "plan.toml")
    return CliRunner().invoke(cli, [str(each) for each in ("fl", command, *files, *arguments)])


def tried(place: Path, *, published: str = "served") -> Result:
    return fl("simulate", place, "-o", place / "tried", "--publish", place / published)


def opened(directory: Path, name: str = "three", version: int = 1) -> bytes:
    with (directory / f"{name}.sealed").open("rb") as file:
        return bytes(
            open_bytes(
                file,
                identities=[BrokerKey(read_secret(directory / f"{name}.key"))],
                pin=Pin.parse((directory / f"{name}.sealed.pin").read_text().strip()),
                media_type="application/onnx",
                name=name,
                version=version,
                max_bytes=2**20,
            )
        )


def weights() -> np.ndarray:
    return 2 * np.random.default_rng(3).standard_normal((8, 3))


def everything_below(*places: Path) -> bytes:
    return b"".join(
        path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()
    )


def demand_clean(*places: Path) -> None:
    """The weights are nowhere in the clear, in either precision."""
    found = everything_below(*places)
    for kind in ("<f4", "<f8"):
        assert weights().astype(kind).tobytes()[:32] not in found


# The way


def test_a_run_is_published_and_its_model_is_that_of_the_arithmetic(place: Path) -> None:
    done = tried(place)
    assert done.exit_code == 0, done.output
    assert f"serve it: wardian up {place / 'served'}" in done.output
    model = load_model(
        opened(place / "served"), media_type="application/onnx", engine="onnxruntime", threads=1
    )
    rows = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    expected = (rows @ weights() + np.arange(3.0)).argmax(1) + 4
    assert model.infer({"input": rows})["label"].tolist() == expected.tolist()
    demand_clean(place / "served", place / "tried")
    assert not (place / "tried" / KEY).exists()  # it is published: nothing is kept


def test_up_reads_the_directory(place: Path) -> None:
    assert tried(place).exit_code == 0
    source = Source.read(place / "served")
    agreed = parse(source.render_agreed(b"\x11" * 32), Agreed, name="wardian.toml")
    assert agreed.mesh.name == "three"
    assert agreed.models["three"].media_type == "application/onnx"
    assert agreed.models["three"].max_model_bytes == 4 * 1024**2
    left = take_sealed(
        place / "served" / source.example.models["three"].file,
        place / "copy",
        key=BrokerKey(read_secret(place / "served" / "three.key")),
        media_type="application/onnx",
        name="three",
        version=1,
    )
    assert left.total_bytes == len(opened(place / "served"))


def test_what_is_published_is_for_its_user_alone(place: Path) -> None:
    before = os.umask(0)
    try:
        assert tried(place).exit_code == 0
    finally:
        os.umask(before)
    found = [place / "served", *(place / "served").iterdir()]
    assert {path.name for path in found} == {
        *("served", "three.sealed", "three.sealed.pin", "three.key"),
        *("wardian.toml", "example.toml"),
    }
    assert not any(path.stat().st_mode & 0o077 for path in found)


def test_no_output_holds_the_key(place: Path) -> None:
    done = tried(place)
    assert (place / "served" / "three.key").read_text().strip() not in done.output


def test_arrays_in_the_clear_are_published_as_the_version_that_is_said(place: Path) -> None:
    assert fl("simulate", place, "-o", place / "tried").exit_code == 0
    for run in (place / "tried", place / "tried" / "model.npz"):
        out = place / f"served-{run.name}"
        done = fl("publish", place, run, "-o", out, "--version", 7)
        assert done.exit_code == 0, done.output
        assert weights().astype("<f4").tobytes() in opened(out, version=7)
        assert Source.read(out).example.models["three"].version == 7
        assert (place / "tried" / "model.npz").exists()  # it is the user's


def test_a_party_without_an_engine_publishes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install has none; what the app exports is read within bounds all the same."""
    monkeypatch.setitem(sys.modules, "wardian.inference.openvino", None)
    done = tried(place)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "no engine is installed here to try it" in done.output
    export = "\n\n@app.export()\ndef servable(arrays, context):\n    return b'garbage' * 9\n"
    (place / "app.py").write_text(APP + export)
    assert "no model that is served" in str(tried(place, published="other").exception)


def test_owners_sign_for_what_was_published(place: Path) -> None:
    """Elsewhere than on a laptop: the owners' keys stand in wardian.toml, and they sign a line."""
    assert tried(place).exit_code == 0
    served, runner = place / "served", CliRunner()
    key = place / "owner.key"
    made = runner.invoke(cli, ["owner", "keygen", "--out", str(key)])
    public = read_owner_key(key).public.hex()
    assert public in made.output
    agreed = (served / "wardian.toml").read_text().replace("owners = []", f'owners = ["{public}"]')
    (served / "wardian.toml").write_text(agreed)
    signed = runner.invoke(
        cli,
        [
            *("owner", "model", str(served / "three.sealed"), "--key", str(key)),
            *("--broker-key", str(served / "three.key"), "--measurement", "ab" * 32),
            *("--agreed", str(served / "wardian.toml"), "-o", str(place / "three.line")),
        ],
    )
    assert signed.exit_code == 0, signed.output + repr(signed.exception)
    assert "three version 1" in signed.output


# The party's own command


@pytest.fixture
def party(place: Path) -> list[str]:
    """A party's command line; it has a key of its own, and nobody listens at the aggregator."""
    CliRunner().invoke(cli, ["owner", "keygen", "--out", str(place / "a.key")])
    public = read_owner_key(place / "a.key").public.hex()
    (place / "plan.toml").write_text(PLAN.replace("ab" * 32, public))
    policy = f'simulation_root_sha256 = "{"11" * 32}"\nmeasurements = ["{"22" * 32}"]\n'
    (place / "policy.toml").write_text(policy)
    options = {"app": "app.py", "consortium": "plan.toml", "policy": "policy.toml", "key": "a.key"}
    options |= {"state": "state", "publish": "served"}
    files = [part for name, file in options.items() for part in (f"--{name}", str(place / file))]
    return ["party", "a", "--aggregator", "127.0.0.1:1", *files]


def test_a_party_goes_on_from_the_model_that_it_kept(place: Path, party: list[str]) -> None:
    """It was killed between the end of the run and its publication; the aggregator is gone."""
    (place / "state").mkdir()
    model = ArrayRecord({"file": weights(), "bias": np.arange(3.0)})
    keep_model(place / "state", model, name="three")
    options = ("-o", str(place / "model.npz"), "--publish-version", "2")
    done = CliRunner().invoke(cli, [*party, *options])
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert weights().astype("<f4").tobytes() in opened(place / "served", version=2)
    assert read_arrays(place / "model.npz") == model
    assert not (place / "state" / KEY).exists()


def test_a_party_s_model_of_another_consortium_is_not_published(
    place: Path, party: list[str]
) -> None:
    (place / "state").mkdir()
    keep_model(place / "state", MODEL, name="another")
    done = CliRunner().invoke(cli, party)
    assert "is not the model that was kept" in str(done.exception)
    assert not (place / "served").exists()


# What goes wrong


@pytest.mark.parametrize(
    ("export", "why"),
    [
        ("    raise ValueError('no such layer')", "failed: ValueError: no such layer"),
        ("    return None", "returned no bytes"),
        ("    return b''", "returned no bytes"),
        ("    return 'model.onnx'", "returned no bytes"),
        ("    return b'garbage' * 9", "no model that is served"),
        ("    return b'WRDNIR1\\n' + b'garbage' * 9", "no model that is served"),
        ("    return classifier([(arrays['bias'], arrays['bias'])])", "were expected"),
    ],
    ids=["raises", "none", "empty", "text", "garbage", "garbage-ir", "layers"],
)
def test_an_export_that_fails_costs_no_model(place: Path, export: str, why: str) -> None:
    """The run is over: what the app cannot export is kept, sealed, and published once it can."""
    (place / "app.py").write_text(
        f"{APP}\n\n@app.export()\ndef servable(arrays, context):\n{export}\n"
    )
    done = tried(place)
    assert isinstance(done.exception, FormatError | ConfigError)
    assert why in str(done.exception)
    assert not (place / "served").exists()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]
    demand_clean(place / "tried")
    (place / "app.py").write_text(APP + EXPORT)
    done = fl("publish", place, place / "tried", "-o", place / "served")
    assert done.exit_code == 0, done.output
    assert not [name for name in (KEY, SEALED, PIN) if (place / "tried" / name).exists()]
    wanted = weights().astype("<f4").tobytes()
    assert wanted in opened(place / "served")


def test_an_app_that_does_not_export_is_told_before_the_run(place: Path) -> None:
    (place / "app.py").write_text(APP)
    done = tried(place)
    assert isinstance(done.exception, ConfigError)
    assert "no function that exports" in str(done.exception)
    assert not (place / "tried").exists()


@pytest.mark.parametrize("there", ["file", "directory", "link", "published"])
def test_nothing_is_overwritten(place: Path, there: str) -> None:
    served = place / "served"
    if there == "file":
        served.write_text("mine")
    elif there == "link":
        served.symlink_to(place / "nowhere")
    elif there == "directory":
        served.mkdir()
        (served / "wardian.toml").write_text("mine")
    else:
        assert tried(place).exit_code == 0
    before = everything_below(place)
    done = tried(place)
    assert done.exit_code != 0
    assert isinstance(done.exception, ConfigError) or "is a file" in done.output
    assert everything_below(place) == before  # nothing was run, either


def test_what_appears_meanwhile_is_not_overwritten(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, rename = place / "served", Path.rename

    def late(path: Path, target: Path) -> Path:
        served.mkdir()
        (served / "mine").write_text("mine")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    made = Servable(media_type="application/onnx", data=b"m", engine=None)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_deployment(made, served, name="three", version=1)
    assert [path.name for path in served.iterdir()] == ["mine"]
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def test_an_empty_directory_is_taken(place: Path) -> None:
    (place / "served").mkdir()
    assert tried(place).exit_code == 0


# What is kept


MODEL = ArrayRecord({"w": np.arange(40.0), "file": np.zeros((2, 3), np.float32)})


def test_what_is_kept_is_sealed_and_comes_back(tmp_path: Path) -> None:
    assert kept_model(tmp_path, name="three") is None
    keep_model(tmp_path, MODEL, name="three")
    assert MODEL["w"].tobytes()[64:128] not in everything_below(tmp_path)
    assert kept_model(tmp_path, name="three") == MODEL
    forget_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("attack", ["changed", "cut", "swapped", "renamed", "key"])
def test_what_was_changed_is_not_published(tmp_path: Path, attack: str) -> None:
    keep_model(tmp_path, MODEL, name="three")
    sealed, name = tmp_path / SEALED, "three"
    raw = bytearray(sealed.read_bytes())
    if attack == "changed":
        raw[-40] ^= 1
        sealed.write_bytes(raw)
    elif attack == "cut":
        sealed.write_bytes(raw[:-1])
    elif attack == "swapped":
        other = tmp_path / "other"
        other.mkdir()
        keep_model(other, MODEL, name="three")
        sealed.write_bytes((other / SEALED).read_bytes())
    elif attack == "key":
        (tmp_path / KEY).write_text("00" * 32)
    else:
        name = "another"
    with pytest.raises(ConfigError, match="is not the model that was kept"):
        kept_model(tmp_path, name=name)


def test_a_run_that_left_nothing(place: Path) -> None:
    (place / "tried").mkdir()
    done = fl("publish", place, place / "tried", "-o", place / "served")
    assert "holds no model" in str(done.exception)


def test_arrays_are_read_as_numpy_writes_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "by-numpy.npz", a=np.arange(3), b=np.zeros(2, np.float32))
    found = read_arrays(tmp_path / "by-numpy.npz")
    assert found == ArrayRecord({"a": np.arange(3), "b": np.zeros(2, np.float32)})
    (tmp_path / "ours.npz").write_bytes(encode_arrays(MODEL))
    with np.load(tmp_path / "ours.npz") as data:
        assert np.array_equal(data["file"], MODEL["file"])


@pytest.mark.parametrize("content", ["garbage", "empty", "cut", "pickle", "single"])
def test_a_file_that_holds_no_arrays(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.npz"
    if content == "pickle":
        np.savez(path, a=np.array([{"a": 1}], dtype=object))
    elif content == "single":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "cut":
        path.write_bytes(encode_arrays(MODEL)[:-30])
    else:
        path.write_bytes(b"" if content == "empty" else b"PK\x03\x04 not a zip")
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        read_arrays(path)


def test_an_app_exports_once() -> None:
    app = ClientApp()
    app.export()(lambda arrays, context: b"model")
    assert app.exports
    assert app.exported(MODEL, Context(party="a")) == b"model"
    with pytest.raises(ConfigError, match="two functions that export"):
        app.export()(lambda arrays, context: b"other")
    with pytest.raises(ConfigError, match="no function that exports"):
        ClientApp().exported(MODEL, Context(party="a"))
