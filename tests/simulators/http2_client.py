"""An HTTP/2 client that sends any frames, also wrong ones, and reads what comes back."""

import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any, Self

import hpack
from simulators.front_end import HOST, FrontEnd

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11
PREDICT = "/v1/models/digits:predict"
GOOD = json.dumps({"instances": [[0.0] * 64]}).encode()
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def settings(**values: int) -> bytes:
    """SETTINGS by number: settings(_4=0)."""
    pairs = [struct.pack(">HI", int(key[1:]), value) for key, value in values.items()]
    return frame(SETTINGS, 0, 0, b"".join(pairs))


def open_tls(
    front: FrontEnd,
    *protocols: str,
    receive_bytes: int | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=front.ca.certificate)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    raw = socket.socket()
    raw.settimeout(20)
    if receive_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.connect((HOST, front.port))
    return context.wrap_socket(raw, server_hostname="localhost")


class Ended(Exception):
    """The server said GOAWAY: `code`, `last` stream, and `why`."""

    def __init__(self, payload: bytes) -> None:
        self.last, self.code = struct.unpack(">II", payload[:8])
        self.why = payload[8:].decode()
        super().__init__(f"{self.code}: {self.why}")


class Reset(Exception):
    """The server reset the stream, for `code`."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


class Http2Client:
    """One connection; `greet` unless told otherwise."""

    def __init__(self, front: FrontEnd, *, greet: bool = True, **options: Any) -> None:
        self.sock = open_tls(front, "h2", **options)
        assert self.sock.selected_alpn_protocol() == "h2"
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        self.next_stream = 1
        self.headers: dict[int, list[dict[str, str]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.whole: set[int] = set()
        self.settings: dict[int, int] = {}
        self.acks = self.pongs = 0
        self.credits: dict[int, int] = {}
        self.ended: Ended | None = None
        self.grants = True
        if greet:
            self.send(PREFACE + settings(_4=2**31 - 1) + frame(WINDOW, 0, 0, u32(2**30)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Self:
        self.sock.sendall(data)
        return self

    def block(self, *fields: tuple[str, str], path: str = "/v2/health/live", method: str = "GET",
              plain: bool = False, **more: str) -> bytes:  # fmt: skip
        """A field block; with `plain`, only `fields`."""
        usual = [
            (":method", method), (":scheme", "https"), (":path", path), (":authority", "localhost"),
        ]  # fmt: skip
        named = [(name.replace("_", "-"), value) for name, value in more.items()]
        return self.encoder.encode([*([] if plain else usual), *named, *fields])

    def request(self, path: str = "/v2/health/live", body: bytes | None = None, *,
                end: bool = True, **fields: str) -> int:  # fmt: skip
        """Send a request, its body in frames of 16 KiB, and return its stream."""
        number, self.next_stream = self.next_stream, self.next_stream + 2
        block = self.block(path=path, method="GET" if body is None else "POST", **fields)
        out = [frame(HEADERS, END_HEADERS | (END_STREAM if body is None else 0), number, block)]
        pieces = [] if body is None else [body[i : i + 16384] for i in range(0, len(body), 16384)]
        for index, piece in enumerate(pieces or ([b""] if body is not None else [])):
            last = end and index == max(0, len(pieces) - 1)
            out.append(frame(DATA, END_STREAM if last else 0, number, piece))
        self.send(b"".join(out))
        return number

    def grpc(self, path: str, message: bytes, *, end: bool = True, **fields: str) -> int:
        framed = b"\0" + u32(len(message)) + message
        fields = {"content_type": "application/grpc", "te": "trailers", **fields}
        return self.request(path, framed, end=end, **fields)

    def answer(self, number: int) -> tuple[int, dict[str, str], bytes]:
        """Status, fields (trailers among them) and body of a whole answer."""
        while number not in self.whole:
            if number in self.resets:
                raise Reset(self.resets[number])
            self.read()
        fields: dict[str, str] = {}
        for each in self.headers[number]:
            fields |= each
        return int(fields[":status"]), fields, self.bodies.get(number, b"")

    def get(self, path: str = "/v2/health/live") -> int:
        return self.answer(self.request(path))[0]

    def call(self, path: str, message: bytes = b"", **fields: str) -> tuple[int, str, bytes]:
        """Status of gRPC, its message, and the answer."""
        _, fields, body = self.answer(self.grpc(path, message, **fields))
        return int(fields["grpc-status"]), fields.get("grpc-message", ""), body[5:]

    def end(self) -> Ended:
        """Read until the server has ended the connection; return why."""
        try:
            while True:
                self.read()
        except (EOFError, OSError, ssl.SSLError):
            pass
        assert self.ended is not None, "the connection ended without GOAWAY"
        return self.ended

    def read(self) -> tuple[int, int, int, bytes]:
        """Read one frame and note what it says."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + self._length():
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        length = self._length()
        kind, flags, number = struct.unpack(">BBI", self.buffer[3:9])
        payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
        self._note(kind, flags, number, payload)
        return kind, flags, number, payload

    def _length(self) -> int:
        return int.from_bytes(self.buffer[:3], "big")

    def _note(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == HEADERS:
            self.headers.setdefault(number, []).append(dict(self.decoder.decode(payload)))
        elif kind == DATA:
            self.bodies[number] = self.bodies.get(number, b"") + payload
            if self.grants and payload:
                self.send(frame(WINDOW, 0, 0, u32(len(payload))))
        elif kind == RST_STREAM:
            self.resets[number] = struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            self.ended = Ended(payload)
        elif kind == PING and flags & ACK:
            self.pongs += 1
        elif kind == SETTINGS and flags & ACK:
            self.acks += 1
        elif kind == SETTINGS:
            self.settings |= dict(struct.iter_unpack(">HI", payload))
        elif kind == WINDOW:
            self.credits[number] = self.credits.get(number, 0) + struct.unpack(">I", payload)[0]
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.whole.add(number)
