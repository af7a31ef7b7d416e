"""Parsers of the data plane, with their seeds: what clients, queues and workers send.

A stream may come in any pieces: the parser of one is fed its input in two, the second time, and
has to say the same.
"""

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from wardian._internal import wire as wire_json
from wardian._internal.agreed import Tenants
from wardian.cli.traces.lines import parse_span
from wardian.cli.traces.otlp import parse_response
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import FormatError, PeerProtocolError, WardianError
from wardian.inference.generate.parts import parse_ask
from wardian.inference.spec import FREE, TensorSpec
from wardian.serving.api.generate.bodies import decode_prompt
from wardian.serving.api.oip import decode_infer
from wardian.serving.api.predict import decode_predict
from wardian.serving.grpc import wire
from wardian.serving.grpc.infer_request import parse_infer
from wardian.serving.http.http2 import frames as http2
from wardian.serving.http.messages import HttpRequest
from wardian.serving.http.reader import Refused, RequestReader
from wardian.serving.loadgen.link import AnswerReader
from wardian.serving.queue import frames, redis_entries
from wardian.serving.queue.redis_wire import ReplyReader, command
from wardian.serving.queue.slab import Place, parse_place
from wardian.serving.queue.slab_handover import Offer, parse_offer
from wardian.serving.tenants.api_key import generate_api_key, parse_api_key
from wardian.serving.tenants.lists import SignedTenants, TenantList, TenantTerms, sign_tenants
from wardian.serving.tenants.verify import VerifiedTenants, verify_tenants
from wardian.serving.tensors import Group, Pack, decode_pack, encode_pack
from wardian.serving.traces import parse_traceparent

_LIMIT = 4096
_OFFER = Offer(1, bytes(32), 2**25, 2**25)
_SIGNER = SigningKey.generate()
_API_KEYS = (generate_api_key().reveal(), b" wardian_key_" + b"A" * 48)
_INPUT = TensorSpec(name="image", dtype="FP32", shape=(FREE, 4))
_ALICE = TenantTerms(
    name="alice",
    keys=("ab" * 32,),
    models=("digits",),
    rate_per_s=2.5,
    burst=10,
    max_open=4,
    quota=9,
)
_LIST = TenantList(
    mesh="demo",
    serial=1,
    issued=1_800_000_000,
    not_after=1_800_086_400,
    tenants=(_ALICE, TenantTerms(name="bob", all=True, rate_per_s=1.0, burst=1, max_open=1)),
)
_TRACEPARENTS = (b"00-%b-%b-01" % (b"4b" * 16, b"0a" * 8),)
_CHILD = {
    "time": 1.5, "level": "info", "role": "frontend", "event": "span", "name": "queue",
    "trace": "4b" * 16, "span": "0a" * 8, "parent": "0b" * 8, "start_ns": 1, "duration_ns": 2,
}  # fmt: skip
_ROOT = {"name": "request", "route": "infer", "model": "digits", "version": 1, "status": 200}
_SPANS = tuple(json.dumps(each).encode() for each in (_CHILD, _CHILD | _ROOT))
_OTLP_ANSWERS = (b"{}", b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}')
_TENANTS = (
    wire_json.encode(sign_tenants(_LIST, [_SIGNER])),
    wire_json.encode(sign_tenants(_LIST, [])),
)


_GENERATE = tuple(
    json.dumps({"text_input": "a", "id": "7", "parameters": each}).encode()
    for each in ({"max_tokens": 3, "stop": ["b", "c"]}, {"temperature": 0.5, "top_k": 4, "seed": 2})
)
_ASKS = (b'{"max_tokens":3,"limit":2,"tokens":[1,2],"stream":"%b","stop":["a"]}' % (b"0a" * 16),)


class Parser(NamedTuple):
    """What `targets.Target` is made of."""

    name: str
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def parsers() -> Iterator[Parser]:
    """Yield every parser of bytes that come from outside the process."""
    yield Parser("HTTP requests", lambda raw: _in_pieces(_read_http, raw), _HTTP)
    yield Parser("HTTP answer", lambda raw: AnswerReader().receive(raw), _ANSWERS)
    yield Parser("HTTP/2 frames", lambda raw: _in_pieces(_read_http2, raw), _HTTP2)
    yield Parser("infer body", lambda raw: decode_infer(raw, header_length=None), _JSON)
    yield Parser("binary infer body", _read_binary, _BINARY)
    yield Parser("predict body", lambda raw: decode_predict(raw, inputs=(_INPUT,)), _PREDICT)
    yield Parser("generate body", decode_prompt, _GENERATE)
    yield Parser("part that is asked for", parse_ask, _ASKS)
    yield Parser("gRPC infer", lambda raw: parse_infer(raw, 0, len(raw)), _GRPC)
    yield Parser("queue frames", lambda raw: _in_pieces(_read_frames, raw), _FRAMES)
    yield Parser("place in a slab", parse_place, (Place(1, 4096, 70_000).build(),))
    yield Parser("offer of slabs", lambda raw: parse_offer(1, raw), (_OFFER.build()[13:],))
    yield Parser("pack", decode_pack, _PACKS)
    yield Parser("Redis replies", lambda raw: _in_pieces(_read_replies, raw), _REPLIES)
    yield Parser("Redis entries", _read_entries, _REPLIES)
    yield Parser("tenants list", _read_tenants, _TENANTS)
    yield Parser("API key", lambda raw: parse_api_key(Secret(raw or b" ")), _API_KEYS)
    yield Parser("traceparent", lambda raw: _found(parse_traceparent(raw)), _TRACEPARENTS)
    yield Parser("span in a log", lambda raw: _found(parse_span(raw)), _SPANS)
    yield Parser(
        "OTLP answer", lambda raw: _found(parse_response(raw, sent=9).spans), _OTLP_ANSWERS
    )


def _found(value: object) -> None:
    """Refuse for a parser that takes what it does not know for nothing at all."""
    if not value:
        raise FormatError("nothing")


def _in_pieces(read: Callable[[list[bytes]], list[Any]], raw: bytes) -> list[Any]:
    """Return what `read` finds in `raw`, which is the same in two pieces."""
    try:
        whole: object = read([raw])
    except WardianError as err:
        whole = type(err)
    middle = len(raw) // 2
    try:
        halves: object = read([raw[:middle], raw[middle:]])
    except WardianError as err:
        halves = type(err)
    if whole != halves:
        raise AssertionError(f"whole: {whole}, in two pieces: {halves}")
    if not isinstance(whole, list):
        raise PeerProtocolError("refused")
    return whole


def _read_http(pieces: list[bytes]) -> list[HttpRequest]:
    found: list[HttpRequest] = []

    def take(request: HttpRequest, _: bool) -> bool:
        found.append(request)
        return True

    reader = RequestReader(
        max_body_bytes=_LIMIT,
        tls_spki=b"",
        connection=1,
        peer="",
        deliver=take,
        acquire=lambda _: True,
        send_continue=lambda: None,
    )
    try:
        for piece in pieces:
            if reader.phase != 3:  # after its end the connection reads no more
                reader.feed(piece)
    except Refused:
        if not found:
            raise PeerProtocolError("refused") from None
    finally:
        reader.close()
    return found


def _read_http2(pieces: list[bytes]) -> list[http2.Frame]:
    reader = http2.FrameReader(max_payload=_LIMIT)
    try:
        return [frame for piece in pieces for frame in reader.feed(piece)]
    except http2.Violation:
        raise PeerProtocolError("refused") from None


def _read_tenants(raw: bytes) -> VerifiedTenants:
    signed = wire_json.decode(raw, SignedTenants, what="signed tenants list")
    terms = Tenants(signers=(_SIGNER.public.hex(),))
    return verify_tenants(signed, terms=terms, mesh="demo", now=1_800_000_000)


def _read_frames(pieces: list[bytes]) -> list[frames.Frame]:
    reader = frames.FrameReader(max_bytes=_LIMIT)
    return [frame for piece in pieces for frame in reader.feed(piece)]


def _read_replies(pieces: list[bytes]) -> list[Any]:
    reader = ReplyReader(max_bytes=_LIMIT)
    return [reply for piece in pieces for reply in reader.feed(piece)]


def _read_entries(raw: bytes) -> None:
    """Read each reply as everything that a front end or a worker takes one for."""
    for reply in ReplyReader(max_bytes=_LIMIT).feed(raw):
        refusals = 0
        for parse in _OF_A_REPLY:
            try:
                parse(reply)
            except PeerProtocolError:
                refusals += 1
        if refusals == len(_OF_A_REPLY):
            raise PeerProtocolError("nothing that was asked for")


def _read_streams(reply: Any) -> None:
    for entries in redis_entries.parse_streams(reply, (b"r:front",)).values():
        for entry in entries:
            redis_entries.parse_request(entry)
            redis_entries.parse_answers(entry)


_OF_A_REPLY = (
    _read_streams,
    redis_entries.parse_id,
    redis_entries.parse_pending,
    redis_entries.parse_lanes,
    redis_entries.parse_names,
)


def _read_binary(raw: bytes) -> None:
    """The first two bytes say how long the JSON header is."""
    if len(raw) < 2:
        raise PeerProtocolError("refused")
    decode_infer(raw[2:], header_length=struct.unpack_from(">H", raw)[0])


def _tensor(**more: object) -> dict[str, object]:
    return {"name": "image", "datatype": "FP32", "shape": [1, 4], **more}


_JSON = tuple(
    json.dumps(each).encode()
    for each in (
        {"inputs": [_tensor(data=[1, 2.5, -3e2, 0])], "id": "a", "outputs": [{"name": "o"}]},
        {"inputs": [_tensor(data=[[1, 2, 3, 4]])], "parameters": {"timeout": 1000}},
        {"inputs": [_tensor(datatype="BYTES", data=["a", "\u00e9", "", "b"])]},
        {"inputs": [_tensor(datatype="BOOL", data=[True, False, True, True])]},
        {"inputs": [_tensor(datatype="INT64", data=[2**62, -1, 0, 1])]},
        {"inputs": [_tensor(datatype="BF16", data=[0.5, 1, 2, 3])]},
        {"inputs": [_tensor(shape=[0, 4], data=[])]},
    )
)


def _binary(datatype: str, tail: bytes) -> bytes:
    parameters = {"binary_data_size": len(tail)}
    head = {"inputs": [_tensor(datatype=datatype, parameters=parameters)]}
    text = json.dumps(head).encode()
    return struct.pack(">H", len(text)) + text + tail


_BINARY = (
    _binary("FP32", bytes(16)),
    _binary("BOOL", b"\0\1\1\0"),
    _binary("BYTES", b"".join(struct.pack("<I", size) + bytes(size) for size in (0, 1, 2, 3))),
)
_PREDICT = (
    b'{"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}',
    b'{"instances": [{"image": [1,2,3,4]}]}',
)
_GRPC = (
    b"".join(
        (
            wire.field(1, b"digits"),
            wire.field(3, b"id"),
            wire.field(5, wire.field(1, b"image") + wire.field(2, b"FP32") + b"\x18\x01\x18\x04"),
            wire.field(6, wire.field(1, b"probabilities")),
            wire.field(7, bytes(16)),
        )
    ),
    wire.field(1, b"digits")
    + wire.field(
        5,
        wire.field(1, b"image")
        + wire.field(2, b"INT32")
        + wire.field(3, b"\x01\x04")
        + wire.field(5, wire.field(2, b"\x01\x02\x03\x04")),
    ),
)
_HTTP = (
    b"POST /v2/models/a/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\nGET https://a/v2?x=y HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
)
_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\ncontent-length: 0\r\n\r\n",
)
_HTTP2 = (
    http2.settings({3: 100, 4: 65535})
    + http2.frame(1, 4, 1, b"\x82\x86\x84")
    + http2.frame(0, 1, 1, b"hello"),
    http2.window_update(0, 1000)
    + http2.rst_stream(1, http2.ErrorCode.CANCEL)
    + http2.goaway(1, http2.ErrorCode.NO_ERROR),
)
_FRAMES = (
    frames.frame(frames.FrameKind.HELLO, b"{}") + frames.credit_frame(2),
    frames.message_head(frames.FrameKind.REQUEST, 7, b"sealed") + b"sealed",
    frames.numbered_frame(frames.FrameKind.ANSWER_AT, 7, bytes(16)) + _OFFER.build(),
)
_ROW = np.arange(4, dtype="<f4").reshape(1, 4)
_PACKS = (
    encode_pack(
        Pack(groups=[Group(ids=[1, 2], rows=[1, 1], parts={"image": [_ROW, _ROW]})], tenant="t")
    ),
    encode_pack(
        Pack(
            groups=[
                Group(
                    ids=[3],
                    rows=[1],
                    parts={"texts": [np.array([[b"a", b"", b"bc", b"d"]], object)]},
                )
            ]
        )
    ),
)
_ENTRY = b"*2\r\n$3\r\n1-1\r\n*2\r\n$34\r\n" + b"ab" * 16 + b":5\r\n$6\r\nsealed\r\n"
_REPLIES = (
    b"*1\r\n*2\r\n$7\r\nr:front\r\n*1\r\n" + _ENTRY,
    b"+OK\r\n:12\r\n-ERR no such key\r\n$-1\r\n*-1\r\n",
    b"*1\r\n*4\r\n$3\r\n1-1\r\n$32\r\n" + b"cd" * 16 + b"\r\n:5\r\n:1\r\n",
    b"*2\r\n$8\r\ndigits:1\r\n$32\r\n" + b"ef" * 16 + b"\r\n",
    command(b"XADD", b"r:front", b"*", b"5", b"sealed"),
)
