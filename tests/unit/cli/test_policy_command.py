"""`wardian policy` and `wardian job plan`: from a template to who still has to agree."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_jobs import KEYS, MESH, allow, job, job_table, policy_table, toml

from wardian._internal import wire
from wardian.broker.jobs.plan import plan_digest
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import SignedPolicy, verify_policy
from wardian.cli.main import cli
from wardian.crypto.owner_key import encode_owner_key
from wardian.errors import AuthenticationFailed, ConfigError, PolicyDenied

LATER = 2**40


class Desk:
    """What lies on the desks of two owners."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, key in KEYS.items():
            self.write(f"{name}.key", encode_owner_key(key).reveal()).chmod(0o600)

    def write(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.write_bytes(content)
        return path

    def policy(self, owner: str, **changes: Any) -> Path:
        given = {"allow": [allow(owner, expires=LATER)], **changes}
        return self.write(f"{owner}.toml", toml(policy_table(owner, **given)))

    def job(self, **changes: Any) -> Path:
        return self.write("job.toml", toml(job_table(**changes)))

    def sign(self, owner: str, **changes: Any) -> Path:
        source, output = self.policy(owner, **changes), self.root / f"{owner}.policy"
        run("policy", "sign", source, "--key", self.root / f"{owner}.key", "-o", output)
        return output


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: object) -> tuple[PolicyDenied, str]:
    done = CliRunner().invoke(cli, [str(each) for each in arguments])
    assert isinstance(done.exception, PolicyDenied), done.output
    return done.exception, done.output


def test_the_template_denies_until_it_is_filled_in(desk: Desk) -> None:
    output, key = desk.root / "policy.toml", KEYS["hospital-a"].public.hex()
    new = ("policy", "new", "records", "--mesh", MESH, "--owner", "hospital-a", "--key", key)
    run(*new, "-o", output)
    assert "no rule: nobody gets it" in run("policy", "explain", output)
    held = ("--policy", output, "--policy", desk.sign("hospital-b"))
    denied, _ = refused("job", "plan", desk.job(), *held)
    assert denied.rule == Rule.NO_RULE
    with pytest.raises(ConfigError, match="never overwritten"):
        run(*new, "-o", output)
    with pytest.raises(ConfigError, match="matching regex"):
        run(*new[:-1], "zz", "-o", desk.root / "other.toml")


def test_what_the_template_shows_is_a_policy(desk: Desk) -> None:
    """Its comments, taken away and with keys filled in."""
    output, key = desk.root / "policy.toml", KEYS["hospital-a"].public.hex()
    run(
        "policy",
        "new",
        "records",
        "--mesh",
        MESH,
        "--owner",
        "hospital-a",
        "--key",
        key,
        "-o",
        output,
    )
    parts = policy_table()["parties"]
    lines = output.read_text().splitlines()[3:]
    text = "\n".join(line.removeprefix("# ") for line in lines if "revoked" not in line)
    text = text.replace('pin = "wardian-pin-v1:..."', f'pin = "{policy_table()["pin"]}"')
    text = text.replace('measurements = ["..."]', f'measurements = ["{"00" * 32}"]')
    text = text.replace('platforms = ["..."]', 'any_platform = "risk accepted"')
    text = text.replace('key = "..."', f'key = "{parts["hospital-b"]["key"]}"')
    for name in ("hospital-a", "hospital-b"):
        text = text.replace('seal_to = "..."', f'seal_to = "{parts[name]["seal_to"]}"', 1)
    output.write_text(text.replace('["..."]', '["a"]'))
    assert "rule study allows" in run("policy", "explain", output)


def test_signed_and_checked(desk: Desk) -> None:
    path = desk.sign("hospital-a")
    signed = wire.decode(path.read_bytes(), SignedPolicy, what="x")
    assert verify_policy(signed, mesh=MESH).policy.serial == 1
    owner = KEYS["hospital-a"].public.hex()
    check = ("policy", "check", path)
    assert "1 rule(s), signed by hospital-a" in run(*check, "--mesh", MESH, "--owner", owner)
    assert json.loads(run(*check, "--json"))["table"] == "records"
    assert refused(*check, "--mesh", "elsewhere")[0].rule == Rule.POLICY_MESH
    assert refused(*check, "--owner", KEYS["hospital-b"].public.hex())[0].rule == Rule.NO_POLICY
    draft = desk.policy("hospital-a")
    assert refused("policy", "check", draft, "--owner", owner)[0].rule == Rule.NO_POLICY


def test_a_serial_only_grows(desk: Desk) -> None:
    path, key = desk.sign("hospital-a", serial=2), desk.root / "hospital-a.key"
    for serial in (1, 2):
        again = desk.policy("hospital-a", serial=serial, uses=99)
        denied, _ = refused("policy", "sign", again, "--key", key, "-o", path)
        assert denied.rule == Rule.POLICY_SERIAL
        assert refused("policy", "check", again, "--than", path)[0].rule == Rule.POLICY_SERIAL
    withdrawn = desk.policy("hospital-a", serial=3, revoked=True)
    run("policy", "check", withdrawn, "--than", path)
    assert "WITHDRAWN" in run("policy", "sign", withdrawn, "--key", key, "-o", path)


def test_another_key_signs_nothing(desk: Desk) -> None:
    draft, output = desk.policy("hospital-a"), desk.root / "out"
    with pytest.raises(ConfigError, match="not that of hospital-a"):
        run("policy", "sign", draft, "--key", desk.root / "hospital-b.key", "-o", output)
    with pytest.raises(ConfigError, match="say who signs"):
        run("policy", "sign", draft, "-o", output)
    with pytest.raises(ConfigError, match="gave no signature of this owner"):
        run("policy", "sign", draft, "--sign-with", "cat", "-o", output)
    key = ("--key", desk.root / "hospital-a.key", "-o", output)
    with pytest.raises(ConfigError, match="about another table"):
        run("policy", "sign", draft, *key, "--previous", desk.policy("hospital-b"))
    assert not output.exists()


def test_a_policy_that_was_changed_is_not_read(desk: Desk) -> None:
    path = desk.sign("hospital-a")
    said = json.loads(path.read_bytes())
    said["signature"] = "00" * 64
    path.write_text(json.dumps(said))
    for command in (("policy", "explain"), ("policy", "check")):
        with pytest.raises(AuthenticationFailed):
            run(*command, path)
    with pytest.raises(AuthenticationFailed):
        run("job", "plan", desk.job(), "--policy", path)


def test_all_owners_allow_a_plan(desk: Desk) -> None:
    held = ("--policy", desk.sign("hospital-a"), "--policy", desk.policy("hospital-b"))
    told = run("job", "plan", desk.job(), *held)
    assert told.count("agrees, by rule study") == 2
    assert "the policy of hospital-b is not signed" in told
    said = json.loads(run("job", "plan", desk.job(), *held, "--json"))
    assert said["digest"] == plan_digest(job()).hex()
    assert [each["rule"] for each in said["owners"]] == ["study", "study"]
    assert said["drafts"] == ["hospital-b"]


def test_who_refuses_a_plan_and_who_must_still_agree(desk: Desk) -> None:
    plan = desk.job(purpose="billing")
    denied, told = refused("job", "plan", plan, "--policy", desk.sign("hospital-a"))
    assert denied.rule in {Rule.PURPOSE, Rule.NO_POLICY}
    assert "rule study: the purpose is billing (job-purpose)" in told
    assert "the policy: no policy of its owner is about it (no-policy)" in told
    assert refused("job", "plan", desk.job())[0].rule == Rule.NO_POLICY


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"{", b"[[allow]]", b"mesh = 1\n"])
def test_what_is_no_file_of_these(desk: Desk, content: bytes) -> None:
    path = desk.write("wrong", content)
    with pytest.raises(ConfigError, match="wrong"):
        run("policy", "explain", path)
    with pytest.raises(ConfigError, match="wrong"):
        run("job", "plan", path)
