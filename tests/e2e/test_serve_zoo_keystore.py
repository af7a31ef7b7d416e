"""`wardian serve --zoo` with the flags of their HTTP front end: its keystore, its port, its tokens."""

import json
import ssl
import sys
import urllib.request
from pathlib import Path

from mesh import RunningMesh
from simulators.keystores import PASSWORD, certificate_pem, certify, keystore, p256
from simulators.zoo_redis import PlainRedis

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "compat"))

from zoo_models import WEIGHTS, make_openvino

from wardian.cli.resolving import free_port


def test_their_flags_serve_under_their_certificate(need_program, tmp_path: Path) -> None:
    redis = PlainRedis(need_program("redis-server"), tmp_path / "redis").start()
    key, port = p256(), free_port(["127.0.0.1"])
    certificate = certify(key)
    (tmp_path / "their.pkcs12").write_bytes(keystore(key, certificate))
    (tmp_path / "secret").mkdir()
    password = tmp_path / "secret" / "password"
    password.touch(mode=0o600)
    password.write_bytes(PASSWORD + b"\n")
    make_openvino(tmp_path / "model")
    (tmp_path / "config.yaml").write_text(
        f"modelPath: model\njobName: job\nredisUrl: localhost:{redis.port}\n"
    )
    mesh = RunningMesh(
        state=tmp_path / "state",
        command=("serve", "--zoo", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out")),
        options=(
            "--keystore-password-file", str(password), "--", "--httpsEnabled", "true",
            "--httpsKeyStorePath", str(tmp_path / "their.pkcs12"), "--securePort", str(port),
            "--tokenBucketEnabled", "true", "--tokensPerSecond", "30",
        ),
    )  # fmt: skip
    try:
        mesh.start()
        context = ssl.create_default_context(cadata=certificate_pem(certificate).decode())
        request = urllib.request.Request(
            f"https://localhost:{port}/models/job/versions/1/predict",
            data=json.dumps({"instances": [{"image": [1, 0, 0, 0]}]}).encode(),
        )
        with urllib.request.urlopen(request, context=context, timeout=20) as reply:
            (told,) = json.loads(reply.read())["predictions"]
        found = json.loads(json.loads(told)["value"])["data"]
        assert [round(each, 3) for each in found] == [round(float(each), 3) for each in WEIGHTS[0]]
        assert "UNPROTECTED who holds the key of" in mesh.screen
        assert PASSWORD.decode() not in mesh.screen
    finally:
        assert mesh.stop() == 0, mesh.screen
        redis.kill()
