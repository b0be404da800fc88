"""An endpoint that answers the accept path's requests to S3 and SQS and keeps nothing.

In a process of its own, and cheap, so that what is measured is the client. It answers as AWS does where the
client reads it: ETags, upload ids, an entry of `Successful` for each of a batch, 100 Continue.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import uvloop

from benchmarks.listeners import PROCESSES, raise_open_files

UPLOAD = b"<InitiateMultipartUploadResult><UploadId>canned</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b'<CompleteMultipartUploadResult><ETag>"canned"</ETag></CompleteMultipartUploadResult>'


@dataclass(frozen=True, slots=True)
class Manner:
    """How it answers; all in seconds."""

    s3_latency: float = 0
    sqs_latency: float = 0

    stall: float = 0
    """For this long it does not read the body of a part."""

    certificate: Path | None = None
    """PEM of a certificate and its key: HTTPS."""


@contextmanager
def answering(manner: Manner | None = None) -> Iterator[str]:
    """Its URL."""
    ours, its = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_run, args=(manner or Manner(), its), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _run(manner: Manner, pipe: Connection) -> None:
    raise_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(manner, pipe))


async def _serve(manner: Manner, pipe: Connection) -> None:
    tls = None
    if manner.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(manner.certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Answers(manner), "127.0.0.1", 0, backlog=1024, ssl=tls
    )
    scheme = "https" if tls else "http"
    pipe.send(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await asyncio.Event().wait()


class _Answers(asyncio.Protocol):
    """One request after the other; of a body to S3 nothing is kept but its length."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._head = b""
        self._left = 0
        self._body: list[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        while data:
            if not self._left:
                self._head += data
                head, end, data = self._head.partition(b"\r\n\r\n")
                if not end:
                    return
                self._begin(head)
            else:
                octets, data = data[: self._left], data[self._left :]
                self._left -= len(octets)
                if self._body is not None:
                    self._body.append(octets)
            if not self._left:
                self._answer()

    def _begin(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self._method, self._target, _ = first.split(" ")
        self._fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self._head = b""
        self._left = int(self._fields.get("content-length", 0))
        self._body = [] if "x-amz-target" in self._fields else None
        if self._fields.get("expect") == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._manner.stall and "partNumber" in self._target:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(self._manner.stall, self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _answer(self) -> None:
        is_sqs = self._body is not None
        latency = self._manner.sqs_latency if is_sqs else self._manner.s3_latency
        body = self._sqs() if self._body is not None else self._s3()
        kind = b"application/x-amz-json-1.0" if is_sqs else b"application/xml"
        status = b"204 No Content" if self._method == "DELETE" else b"200 OK"
        octets = b'HTTP/1.1 %b\r\nContent-Type: %b\r\nETag: "canned"\r\nContent-Length: %d\r\n\r\n%b' % (
            status,
            kind,
            len(body),
            body,
        )
        if latency:
            asyncio.get_running_loop().call_later(latency, self._transport.write, octets)
        else:
            self._transport.write(octets)

    def _s3(self) -> bytes:
        query = parse_qs(urlsplit(self._target).query, keep_blank_values=True)
        if self._method == "POST":
            return UPLOAD if "uploads" in query else COMPLETED
        return b""

    def _sqs(self) -> bytes:
        request: dict[str, Any] = json.loads(b"".join(self._body or ()))
        answer: dict[str, Any]
        match self._fields["x-amz-target"]:
            case "AmazonSQS.SendMessage":
                answer = _taken(request)
            case "AmazonSQS.SendMessageBatch":
                answer = {
                    "Successful": [{"Id": entry["Id"], **_taken(entry)} for entry in request["Entries"]]
                }
            case "AmazonSQS.CreateQueue":
                answer = {"QueueUrl": f"http://{self._fields['host']}/000000000000/{request['QueueName']}"}
            case other:
                raise ValueError(f"no canned answer to {other}")
        return json.dumps(answer).encode()


def _taken(message: dict[str, Any]) -> dict[str, str]:
    digest = hashlib.md5(message["MessageBody"].encode(), usedforsecurity=False).hexdigest()
    return {"MessageId": "7b270e59-b47a-4c90-88d1-000000000000", "MD5OfMessageBody": digest}
