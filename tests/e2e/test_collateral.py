"""Collateral from a PCCS on a real socket, honest and not, and the commands that fetch and show it."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simulators.pccs import (
    FakePccs,
    after_a_pause,
    endless_chunks,
    endless_headers,
    huge,
    instead,
    not_found,
    raw,
    redirect,
    silent,
    slow,
    with_headers,
)

from wardian._internal import settings, wire
from wardian._internal.operator import CollateralPlace, Operator
from wardian.attestation.collateral.cache import CollateralCache, file_name
from wardian.attestation.collateral.pccs import parse_pccs
from wardian.attestation.collateral.pccs_client import MAX_ANSWER_BYTES, PccsClient
from wardian.attestation.collateral.pccs_source import PccsCollateral, fetch_into, open_source
from wardian.attestation.collateral.platform_model import verify_model
from wardian.attestation.collateral.signed import verify_collateral
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verifier import verify_quote
from wardian.errors import (
    CollateralUnavailable,
    EvidenceInvalid,
    FormatError,
    PeerProtocolError,
    Timeout,
    TransportError,
)
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform

DAY = 24 * 3600
TIMEOUT_S = 0.6


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return generate_platform()


@pytest.fixture(scope="module")
def quote(platform) -> bytes:
    return platform.quote(mr_enclave=bytes(32), report_data=bytes(64))


@pytest.fixture
def pccs(platform):
    with FakePccs([platform.collateral()]) as service:
        yield service


def model(platform, quote):
    return verify_model(parse_quote(quote), roots=frozenset({platform.root_sha256}))


def client(pccs: FakePccs, timeout_s: float = 10.0) -> PccsClient:
    return PccsClient(parse_pccs(pccs.url), timeout_s=timeout_s)


def run(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "wardian.cli", "attest", "collateral", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
        env=os.environ | dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:1"),
    )


# --- over a socket -------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_a_quote_verifies_with_what_was_fetched(platform, quote, tmp_path, tls):
    with FakePccs([platform.collateral()], tls=tmp_path if tls else None) as pccs:
        held, _ = fetch_into(CollateralCache(None), client(pccs), model(platform, quote))
    assert [path.partition("?")[0] for path in pccs.asked] == [
        "/sgx/certification/v4/pckcrl",
        "/sgx/certification/v4/rootcacrl",
        "/sgx/certification/v4/tcb",
        "/sgx/certification/v4/qe/identity",
    ]
    verify_quote(quote, held.encode(), root=platform.root_der, now=int(time.time()))


def test_what_the_operator_configured(platform, quote, pccs, tmp_path):
    text = f'[collateral]\npccs = "{pccs.url}/sgx/certification/v4/"\ncache = "{tmp_path / "c"}"\n'
    place = settings.parse(text.encode(), Operator, name="operator.toml").collateral
    evidence = Evidence(quote=quote, collateral=b"")
    roots, now = frozenset({platform.root_sha256}), int(time.time())
    completed = open_source(place).complete(evidence, roots=roots, now=now)
    verify_quote(quote, completed.collateral, root=platform.root_der, now=now)
    pccs.mischief = silent
    offline = CollateralPlace(cache=place.cache)
    assert open_source(offline).complete(evidence, roots=roots, now=now) == completed


MISCHIEF = {
    "one byte at a time": (slow(), Timeout),
    "silence": (silent, Timeout),
    "each in time, all together not": (after_a_pause(TIMEOUT_S / 3), Timeout),
    "ten gigabytes": (huge, PeerProtocolError),
    "endless chunks": (endless_chunks, PeerProtocolError),
    "endless headers": (endless_headers, PeerProtocolError),
    "404": (not_found, PeerProtocolError),
    "redirect to a file": (redirect("file:///etc/passwd"), PeerProtocolError),
    "redirect to another port": (redirect("http://127.0.0.1:1/x", 308), PeerProtocolError),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), PeerProtocolError),
    "nothing": (raw(b""), TransportError),
    "cut off": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"), PeerProtocolError),
    "two chains": (with_headers(("SGX-PCK-CRL-Issuer-Chain", "-----BEGIN")), FormatError),
    "an injected header": (with_headers(("X", "a\r\nSGX-PCK-CRL-Issuer-Chain: b")), FormatError),
    "a login page": (instead(b"<html>Log in</html>"), FormatError),
    "wrong content": (instead(b'{"tcbInfo":{},"signature":""}'), FormatError),
    "too much": (instead(bytes(MAX_ANSWER_BYTES)), PeerProtocolError),
}


@pytest.mark.parametrize("name", MISCHIEF)
def test_a_service_that_misbehaves_costs_a_bounded_time_and_nothing_else(
    platform, quote, pccs, name
):
    pccs.mischief, error = MISCHIEF[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with pytest.raises(error):
        fetch_into(CollateralCache(None), client(pccs, TIMEOUT_S), model(platform, quote))
    assert time.monotonic() - began < TIMEOUT_S + 5  # a loaded machine is slow, not stopped
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_no_redirect_leads_to_another_service(platform, quote, pccs):
    with FakePccs([platform.collateral()]) as other:
        pccs.mischief = lambda request, _reply: redirect(other.url + request.path)(request, _reply)
        with pytest.raises(PeerProtocolError, match="redirects are not followed"):
            client(pccs).fetch(model(platform, quote))
        assert other.asked == []


def test_a_service_with_another_platforms_collateral(platform, quote, tmp_path):
    other = generate_platform()
    with FakePccs([other.collateral()]) as pccs, pytest.raises(EvidenceInvalid):
        fetch_into(CollateralCache(tmp_path), client(pccs), model(platform, quote))
    assert list(tmp_path.iterdir()) == []


def test_older_replaced_by_newer_and_back(platform, quote, tmp_path):
    now = int(time.time())
    about, cache = model(platform, quote), CollateralCache(tmp_path)
    old, new = (
        platform.issue_collateral(issued=now - age, expires=now + 20 * DAY)
        for age in (DAY // 2, DAY // 4)
    )
    with FakePccs([old]) as pccs:
        for shelf, kept in ((old, old), (new, new), (old, new)):
            pccs.shelf = [shelf]
            held, _ = fetch_into(cache, client(pccs), about)
            assert json.loads(held.encode()) == json.loads(kept)
        assert json.loads((tmp_path / file_name(about)).read_bytes()) == json.loads(new)


def test_an_altered_cache_is_fetched_anew_and_without_a_service_refused(
    platform, quote, pccs, tmp_path
):
    about = model(platform, quote)
    evidence = Evidence(quote=quote, collateral=b"")
    roots, now = frozenset({platform.root_sha256}), int(time.time())
    fetch_into(CollateralCache(tmp_path), client(pccs), about)
    path = tmp_path / file_name(about)
    genuine = path.read_bytes()
    path.write_bytes(genuine.replace(b"UpToDate", b"OutOfDat"))
    pccs.mischief = not_found
    source = PccsCollateral(client(pccs), CollateralCache(tmp_path))
    with pytest.raises(CollateralUnavailable, match="answered 404"):
        source.complete(evidence, roots=roots, now=now)
    pccs.mischief = None
    source = PccsCollateral(client(pccs), CollateralCache(tmp_path))
    completed = source.complete(evidence, roots=roots, now=now)
    assert completed.collateral == path.read_bytes() == genuine


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def files(platform, quote, tmp_path) -> Path:
    (tmp_path / "quote.bin").write_bytes(quote)
    return tmp_path


def fetch(pccs, platform, files, *more, name="quote.bin"):
    root = platform.root_sha256.hex()
    named = ("--pccs", pccs.url, "--simulation-root-sha256", root)
    return run("fetch", name, *named, *more, cwd=files)


def test_fetch_writes_what_verify_reads(platform, pccs, files):
    done = fetch(pccs, platform, files, "--out", "collateral.json", "--cache", "cache")
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    assert done.stdout.count("ends 20") == 4
    assert done.stderr == ""
    written = (files / "collateral.json").read_bytes()
    (cached,) = (files / "cache").iterdir()
    assert cached.read_bytes() == written
    verify_collateral(written, root_sha256=platform.root_sha256)
    shown = run("show", "collateral.json", "--json", cwd=files)
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert (told["kind"], told["simulated"], told["usable"]) == ("SGX", True, True)
    assert {each["state"] for each in told["statements"].values()} == {"current"}


def test_fetch_asks_as_it_is_told(platform, pccs, files):
    done = fetch(pccs, platform, files, "--out", "c.json", "--update", "early", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["root_sha256"] == platform.root_sha256.hex()
    assert [path.partition("?")[2] for path in pccs.asked] == [
        "ca=platform&encoding=der",
        "",
        "fmspc=57524453494D&update=early",
        "update=early",
    ]


def test_fetch_takes_evidence_too(platform, quote, pccs, files):
    evidence = platform.evidence(mr_enclave=bytes(32), report_data=bytes(64))
    (files / "evidence.json").write_bytes(wire.encode(evidence))
    done = fetch(pccs, platform, files, "--cache", "cache", name="evidence.json")
    assert done.returncode == 0, done.stderr


def test_fetch_keeps_what_is_newer_and_says_so(platform, pccs, files):
    now = int(time.time())
    new = platform.issue_collateral(issued=now - 60, expires=now + 20 * DAY)
    (files / "c.json").write_bytes(new)
    pccs.shelf = [platform.issue_collateral(issued=now - 3600, expires=now + 20 * DAY)]
    done = fetch(pccs, platform, files, "--out", "c.json")
    assert done.returncode == 0
    assert "older statements than are kept here already: pck_crl, root_ca_crl" in done.stderr
    assert json.loads((files / "c.json").read_bytes()) == json.loads(new)


def test_fetch_replaces_what_is_not_genuine(platform, pccs, files):
    (files / "c.json").write_bytes(platform.collateral().replace(b"UpToDate", b"OutOfDat"))
    done = fetch(pccs, platform, files, "--out", "c.json")
    assert done.returncode == 0
    assert "c.json: what it held is replaced" in done.stderr
    verify_collateral((files / "c.json").read_bytes(), root_sha256=platform.root_sha256)


def test_fetch_keeps_apart_what_is_of_another_platform(platform, pccs, files):
    """What FILE held is about another model; the new one does not get mixed with it."""
    other = generate_platform()
    (files / "c.json").write_bytes(other.collateral())
    done = fetch(pccs, platform, files, "--out", "c.json")
    assert done.returncode == 0
    assert "what it held is replaced" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--pccs", "URL", "--out", "c.json"), 3, "the quote is SIMULATED"),
        (("--pccs", "URL", "--out", "c.json", "--simulation-root-sha256", "00" * 32), 3, "another"),
        (("--pccs", "URL", "--out", "c.json", "--simulation-root-sha256", "00"), 2, "64 hex"),
        (("--pccs", "URL", "--out", "c.json", "--simulation-root-sha256", "x"), 2, "not hex"),
        (("--pccs", "URL"), 2, "--out FILE"),
        (("--pccs", "file:///etc/passwd", "--out", "c.json"), 2, "expected http"),
        (("--pccs", "http://127.0.0.1:1", "--out", "c.json", "ROOT"), 1, "Connection refused"),
        (("--out", "c.json"), 2, "--pccs"),
    ],
)
def test_fetch_refuses(platform, pccs, files, arguments, status, told):
    root = ("--simulation-root-sha256", platform.root_sha256.hex())
    given: list[str] = []
    for each in arguments:
        given += root if each == "ROOT" else [pccs.url if each == "URL" else each]
    done = run("fetch", "quote.bin", *given, cwd=files)
    assert done.returncode == status, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (files / "c.json").exists()
    assert pccs.asked == []


def test_fetch_from_a_service_that_lies(platform, pccs, files):
    pccs.shelf = [generate_platform().collateral()]
    done = fetch(pccs, platform, files, "--out", "c.json", "--cache", "cache")
    assert done.returncode == 3, done.stderr
    assert "another root certificate" in done.stderr
    assert not (files / "c.json").exists()
    assert not (files / "cache").exists()


def test_show_warns_before_the_end_and_refuses_after_it(platform, files):
    now = int(time.time())
    (files / "c.json").write_bytes(platform.issue_collateral(issued=now, expires=now + 30 * DAY))
    for days, status, told in (
        (1, 0, ""),
        (22, 0, ""),
        (24, 0, "it ends soon: fetch it anew"),
        (30, 3, "quotes cannot be verified with it"),
        (-1, 3, "check this machine's clock"),
    ):
        done = run("show", "c.json", "--at", now + days * DAY, cwd=files)
        assert done.returncode == status, done.stderr
        assert told in done.stderr
        assert bool(told) == bool(done.stderr)
        marks = {24: "ENDS SOON", 30: "ENDED", -1: "NOT YET"}
        assert done.stdout.count(marks.get(days, "MISSING")) == (4 if days in marks else 0)


def test_show_believes_nothing_that_is_not_signed(platform, files):
    (files / "c.json").write_bytes(platform.collateral().replace(b"UpToDate", b"OutOfDat"))
    done = run("show", "c.json", cwd=files)
    assert done.returncode == 3
    assert "the signature does not verify" in done.stderr
    assert done.stdout == ""


def test_show_of_what_intel_signed(files):
    path = Path(__file__).parents[3] / "shared" / "data" / "quotes" / "tdx_quote_collateral.json"
    if not path.exists():
        pytest.skip("the real quotes are kept outside the repository, and are not here")
    done = run("show", path, "--at", 1751624191, cwd=files)
    assert done.returncode == 0, done.stderr
    assert "TDX b0c06f000000 platform, signed under Intel's root" in done.stdout
    assert "evaluation 17" in done.stdout
    assert "15 days old" in done.stdout
