"""Cluster Serving's HTTPS under an operator's keystore, on a mesh of whole, confined processes."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from mesh import RunningMesh
from simulators.keystores import PASSWORD, certificate_pem, certify, keystore, p256, write_keystore
from simulators.zoo_mesh import (
    HTTPS,
    digit_record,
    https_example,
    https_place,
    zoo_example,
)
from simulators.zoo_redis import JOB, STREAM, PlainRedis

from wardian.cli.resolving import free_port
from wardian.serving.api.table import ROUTES
from wardian.serving.frontend_evidence import PATH as ATTESTATION
from wardian.tee.role_table import ROLES

pytestmark = pytest.mark.slow

VECTORS = Path(__file__).parents[1] / "vectors" / "pkcs12"
BODY = {"instances": [{"image": [0.5] * 64}]}
RATE = 20


class Client:
    """Trusts one certificate and nothing else, as clients do that pinned it."""

    def __init__(self, port: int, certificate: x509.Certificate) -> None:
        self.port = port
        self.context = ssl.create_default_context(cadata=certificate_pem(certificate).decode())

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=30)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read()

    def predicts(self) -> bool:
        try:
            return self.ask("POST", "/predict", BODY)[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def certificate_and_port(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[x509.Certificate, int, RunningMesh]]:
    root = tmp_path_factory.mktemp("zoo-https")
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)  # as theirs was made
    certificate, port = certify(key), free_port(["127.0.0.1"])
    files = write_keystore(root / "files", keystore(key, certificate))
    example = https_example(
        root / "example", port=port, keystore=files,
        operator=f"tokens_per_second = {RATE}\ntoken_wait_ms = 50",
    )  # fmt: skip
    mesh = RunningMesh(state=root / "state", example=example).start()
    yield certificate, port, mesh
    mesh.stop()


@pytest.fixture
def mesh(certificate_and_port: tuple[x509.Certificate, int, RunningMesh]) -> RunningMesh:
    return certificate_and_port[2]


@pytest.fixture
def client(certificate_and_port: tuple[x509.Certificate, int, RunningMesh]) -> Client:
    certificate, port, _ = certificate_and_port
    made = Client(port, certificate)
    until_it_predicts(made)
    return made


def until_it_predicts(client: Client, *, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not client.predicts():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def test_predictions_under_the_certificate_that_clients_know(client: Client) -> None:
    assert client.ask("GET", "/") == (200, b"welcome to analytics zoo web serving frontend")
    status, body = client.ask("POST", "/models/digits/versions/1/predict", BODY)
    assert status == 200
    (told,) = json.loads(body)["predictions"]
    outputs = json.loads(json.loads(told)["value"])
    assert len(outputs) > 1
    assert all(each["data"] for each in outputs)
    assert json.loads(client.ask("GET", "/models")[1])[0]["modelName"] == "digits"
    assert client.ask("POST", "/predict", [1])[0] == 400
    assert client.ask("POST", "/model-secure", "secret=a&salt=b")[0] == 403


def test_no_evidence_and_no_other_path(client: Client) -> None:
    """One connection: an error ends none."""
    paths = {*ROUTES, f"{ATTESTATION}?nonce={64 * '0'}"} - {"/metrics"}
    with contextlib.closing(client.connect()) as connection:
        for path in sorted(paths):
            for method in ("GET", "POST"):
                connection.request(method, path.replace("*", "digits"), b"{}")
                response = connection.getresponse()
                body = response.read()
                assert response.status == 404, path
                assert set(json.loads(body)) == {"error", "code"}


def test_metrics_count_what_was_asked_here(client: Client) -> None:
    client.ask("GET", "/models")
    status, body = client.ask("GET", "/metrics")
    assert status == 200
    shown = body.decode()
    assert 'wardian_requests_total{model="",route="zoo_models",status="200"}' in shown
    assert 'wardian_inferences_total{model="digits",outcome="answered",version="1"}' in shown
    assert 'wardian_model_ready{model="digits"} 1.0' in shown
    assert "process_cpu_seconds_total" in shown


def test_whoever_has_no_token_is_refused(client: Client) -> None:
    statuses = []
    with contextlib.closing(client.connect()) as connection:
        began = time.monotonic()
        while time.monotonic() - began < 1.0 and len(statuses) < 50 * RATE:
            connection.request("POST", "/predict", json.dumps(BODY))
            response = connection.getresponse()
            assert response.read()
            statuses.append(response.status)
        lasted = time.monotonic() - began
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) <= RATE * (lasted + 1) + 1
    if len(statuses) > RATE * (lasted + 1) + 1:
        assert 429 in statuses
    assert client.ask("GET", "/models")[0] == 200  # needs none


def test_older_tls_and_other_trust_are_refused(client: Client, mesh: RunningMesh) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", client.port), 10) as raw,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(raw)
    of_mesh = ssl.create_default_context(cafile=mesh.ca)
    with (
        socket.create_connection(("127.0.0.1", client.port), 10) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        of_mesh.wrap_socket(raw, server_hostname="localhost")
    with (
        socket.create_connection(("127.0.0.1", client.port), 10) as raw,
        client.context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        assert connection.version() == "TLSv1.3"


def test_no_client_of_the_mesh_takes_it_for_a_front_end(client: Client, mesh: RunningMesh) -> None:
    import wardian
    from wardian.errors import WardianError

    with (
        pytest.raises(WardianError),
        wardian.connect(f"https://localhost:{client.port}", policy=mesh.policy) as connection,
    ):
        connection.metadata("digits")


def test_everybody_says_that_it_is_unprotected(client: Client, mesh: RunningMesh) -> None:
    assert "zoo is UNPROTECTED: the key of" in mesh.screen
    assert f"HTTPS on port {client.port}, UNPROTECTED" in mesh.screen
    log = (mesh.state / "logs" / "zoo.jsonl").read_text()
    said = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any(
        each["event"] == "zoo.unprotected" and "private key" in each.get("said", "")
        for each in said
    )
    assert any(
        each["event"] == "zoo.ready" and each.get("protection") == "UNPROTECTED" for each in said
    )
    for command in (("status",), ("mesh", "status")):
        shown = subprocess.run(
            [sys.executable, "-m", "wardian.cli", *command, "--state", str(mesh.state)],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        lines = [line for line in shown.splitlines() if line.strip().startswith("zoo ")]
        assert lines, command
        assert all("UNPROTECTED" in line for line in lines)


def test_its_password_and_key_are_nowhere_in_logs_or_arguments(
    client: Client, mesh: RunningMesh
) -> None:
    del client
    told = b"".join(path.read_bytes() for path in (mesh.state / "logs").iterdir())
    told += mesh.screen.encode()
    for pid in mesh.pids():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                told += Path(f"/proc/{pid}/{name}").read_bytes()
    assert PASSWORD not in told
    assert b"PRIVATE KEY" not in told


def test_killed_and_started_again_it_serves_as_before(client: Client, mesh: RunningMesh) -> None:
    before = client.ask("POST", "/predict", BODY)
    os.kill(mesh.role_pid("zoo"), signal.SIGKILL)
    until_it_predicts(client)
    assert client.ask("POST", "/predict", BODY) == before


def test_both_dialects_from_one_process(need_program, tmp_path: Path) -> None:
    """Under a keystore as Java 8 wrote it, which the confined role opens."""
    raw = (VECTORS / "keytool-legacy.p12").read_bytes()
    found = pkcs12.load_pkcs12(raw, PASSWORD).cert
    assert found is not None
    certificate, port = found.certificate, free_port(["127.0.0.1"])
    files = write_keystore(tmp_path / "files", raw)
    redis = PlainRedis(need_program("redis-server"), tmp_path / "redis").start()
    example = zoo_example(
        tmp_path / "example", port=redis.port, agreed=HTTPS, operator=https_place(port, files)
    )
    mesh, stream = RunningMesh(state=tmp_path / "state", example=example), JOB.decode()
    asker = redis.client()
    try:
        mesh.start()
        client = Client(port, certificate)
        asker.enqueue("one", digit_record(1), *STREAM)
        asker.enqueue("two", b"?", *STREAM)
        deadline = time.monotonic() + 30
        while len(asker.results()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.predicts()
        shown = client.ask("GET", "/metrics")[1].decode()
        for line in (
            f'wardian_zoo_records_read_total{{stream="{stream}"}} 2.0',
            f'wardian_zoo_records_total{{outcome="answered",stream="{stream}"}} 1.0',
            f'wardian_zoo_records_total{{outcome="nan_undecodable",stream="{stream}"}} 1.0',
            f'wardian_zoo_records_held{{stream="{stream}"}} 0.0',
            'wardian_requests_total{model="digits",route="zoo_predict",status="200"} 1.0',
        ):
            assert line in shown
        assert mesh.screen.count("zoo is UNPROTECTED") == 2
        assert mesh.stop() == 0
        assert loaded_by_zoo(mesh) == all_of_zoo()
    finally:
        asker.close()
        mesh.stop()
        redis.kill()


def loaded_by_zoo(mesh: RunningMesh) -> set[str]:
    log = (mesh.state / "logs" / "zoo.jsonl").read_text()
    ended = [json.loads(line) for line in log.splitlines() if '"role.stopped"' in line]
    return set(ended[-1]["modules"].split())


def all_of_zoo() -> set[str]:
    """What the role loads where it serves both: all that the table says of it."""
    from test_role_modules import NOT_LOADED, packages_above

    of_dialects = ("wardian.serving.zoo.", "wardian.serving.api.zoo.")
    absent = {each for each in NOT_LOADED if not each.startswith(of_dialects)}
    named = set(ROLES["zoo"].modules)
    return (named | packages_above(named - absent)) - absent


def test_up_says_what_is_wrong_with_a_keystore_before_it_starts_anything(tmp_path: Path) -> None:
    key = p256()
    files = write_keystore(tmp_path / "files", keystore(key, certify(key)), b"another one")
    example = https_example(tmp_path / "example", port=1, keystore=files)
    mesh = RunningMesh(state=tmp_path / "state", example=example)
    with pytest.raises(RuntimeError, match="wardian up ended with 2") as caught:
        mesh.start()
    assert "operator.toml: [zoo] keystore: the password does not open it" in str(caught.value)
    assert "another one" not in str(caught.value)
    assert not (tmp_path / "state" / "logs" / "broker.jsonl").exists()
