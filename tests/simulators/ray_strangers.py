"""Knocks at each port that listens in the namespace it runs in; prints what came, as JSON.

Run as `python -I ray_strangers.py DIRECTORY` with `node.pem`, `sibling.pem` and their keys there.
"""

import json
import re
import socket
import ssl
import subprocess
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
# With an order that would run a program; whatever is answered but 401 took it in.
REQUEST = b"POST /get_or_create_runtime_env HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def listeners() -> list[tuple[str, int, str]]:
    shown = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    found = []
    for line in shown.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        program = re.search(r'"([^"]+)"', line)
        found.append((address, int(port), program.group(1) if program else ""))
    return sorted(found, key=lambda each: each[1])


def knock(host: str, port: int, context: ssl.SSLContext | None, said: bytes) -> str:
    """What came back: the beginning, or why nothing did."""
    try:
        with socket.create_connection((host, port), timeout=5) as plain:
            plain.settimeout(5)
            if context is None:
                return _exchange(plain, said)
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return _exchange(secure, said)
    except ssl.SSLError as err:
        return f"refused: {err.reason}"
    except OSError as err:
        return f"refused: {type(err).__name__}"


def _exchange(stream, said: bytes) -> str:
    stream.sendall(said)
    heard = stream.recv(200)
    return f"heard: {heard.decode('latin-1')}" if heard else "refused: closed"


def context(directory: str, holder: str | None, *, tls12: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(f"{directory}/ca.pem")
    made.set_alpn_protocols(["h2"])
    if tls12:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if holder is not None:
        made.load_cert_chain(f"{directory}/{holder}.pem", f"{directory}/{holder}.key")
    return made


if __name__ == "__main__":
    directory = sys.argv[1]
    contexts = {
        "http": None,
        "h2c": None,
        "no certificate": context(directory, None),
        "sibling": context(directory, "sibling"),
        "sibling, TLS 1.2": context(directory, "sibling", tls12=True),
        "own": context(directory, "node"),
    }
    out = []
    for address, port, program in listeners():
        host = address.removeprefix("[::ffff:").strip("[]") if address != "*" else "127.0.0.1"
        heard = {
            who: knock(host, port, made, REQUEST if who == "http" else PREFACE)
            for who, made in contexts.items()
        }
        out.append(
            {
                "address": host if address != "*" else "*",
                "port": port,
                "program": program,
                "heard": heard,
            }
        )
    print(json.dumps(out))
