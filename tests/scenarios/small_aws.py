"""An AWS of what the ingress asks for, which stands still or refuses where a test says so.

It keeps what it was given, as AWS would after its client died: objects, uploads that nobody ended, jobs.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.scenarios.ingress_process import WITHIN

BUCKET = "spool"
QUEUE = "accepted"

_BEGUN = b"<InitiateMultipartUploadResult><UploadId>%b</UploadId></InitiateMultipartUploadResult>"
_COMPLETED = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"


class RequestLost(Exception):
    """Its connection ends without an answer."""


@dataclass
class Upload:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)


class Hold:
    """Where requests of one kind stand still until the end of the test's block, which loses them."""

    def __init__(self, operation: str, *, after: bool, passes: int) -> None:
        self.operation = operation
        self.after = after
        self._passes = threading.Semaphore(passes)
        self._reached = threading.Semaphore(0)
        self._over = threading.Event()

    def until_reached(self, times: int = 1) -> None:
        """Until so many more requests stand here."""
        for _ in range(times):
            assert self._reached.acquire(timeout=WITHIN), f"no {self.operation} came"

    def stand(self) -> None:
        if self._passes.acquire(blocking=False):
            return
        self._reached.release()
        self._over.wait()
        raise RequestLost

    def end(self) -> None:
        self._over.set()


class SmallAws:
    def __init__(self, url: str) -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, Upload] = {}
        """Begun, and neither completed nor aborted."""
        self.jobs: list[dict[str, Any]] = []
        self.items: dict[str, Any] = {}
        """Of the control table, by key."""
        self.secrets: dict[str, str] = {}
        self.refusals: dict[str, str] = {}
        """Error codes by operation."""
        self._lock = threading.Lock()
        self._holds: list[Hold] = []
        self._uploads_begun = 0

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[SmallAws]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        aws = _Handler.aws = cls(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield aws
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    @property
    def queue_url(self) -> str:
        return f"{self.url}/000000000000/{QUEUE}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "EMPATH_SPOOL_BUCKET": BUCKET,
            "EMPATH_ACCEPTED_QUEUE_URL": self.queue_url,
        }

    def accepted(self) -> list[bytes]:
        """The content of each job's message. Raises KeyError for a job whose object is not there."""
        return [self.objects[job["spool_key"]] for job in self.jobs]

    def stored(self) -> list[bytes]:
        """The content of every message's object, with or without a job."""
        return [octets for key, octets in self.objects.items() if key.startswith("messages/")]

    @contextmanager
    def holding(self, operation: str, *, after: bool = False, passes: int = 0) -> Iterator[Hold]:
        """Requests whose operation begins so stand still: before anything is done or even read, or `after`
        all is done and nothing is answered. The first `passes` of them do not."""
        hold = Hold(operation, after=after, passes=passes)
        self._holds.append(hold)
        try:
            yield hold
        finally:
            self._holds.remove(hold)
            hold.end()

    def stand_still(self, operation: str, key: str, *, after: bool) -> None:
        """Where a test says so. Raises RequestLost when it has ended."""
        for hold in self._holds:
            is_meant = hold.after is after and operation.startswith(hold.operation)
            if is_meant and not key.startswith("health/"):
                hold.stand()

    def do(self, operation: str, key: str, query: dict[str, str], body: bytes) -> bytes:
        """One request's effect, and what answers it."""
        with self._lock:
            match operation:
                case "PutObject":
                    self.objects[key] = body
                case "CreateMultipartUpload":
                    self._uploads_begun += 1
                    name = f"upload-{self._uploads_begun}"
                    self.uploads[name] = Upload(key)
                    return _BEGUN % name.encode()
                case "UploadPart":
                    self.uploads[query["uploadId"]].parts[int(query["partNumber"])] = body
                case "CompleteMultipartUpload":
                    upload = self.uploads.pop(query["uploadId"])
                    self.objects[upload.key] = b"".join(
                        upload.parts[number] for number in sorted(upload.parts)
                    )
                    return _COMPLETED
                case "AbortMultipartUpload":
                    del self.uploads[query["uploadId"]]
                case "SendMessage":
                    return json.dumps(self._take(json.loads(body))).encode()
                case "SendMessageBatch":
                    entries = json.loads(body)["Entries"]
                    taken = [{"Id": entry["Id"], **self._take(entry)} for entry in entries]
                    return json.dumps({"Successful": taken}).encode()
                case "GetQueueAttributes":
                    return b'{"Attributes": {}}'
                case "GetItem":
                    item = self.items.get(json.loads(body)["Key"]["pk"]["S"])
                    return json.dumps({"Item": item} if item else {}).encode()
                case "GetSecretValue":
                    return json.dumps({"SecretString": self.secrets[json.loads(body)["SecretId"]]}).encode()
                case _:
                    raise ValueError(f"no answer to {operation}")
        return b""

    def _take(self, entry: dict[str, Any]) -> dict[str, str]:
        self.jobs.append(json.loads(entry["MessageBody"]))
        digest = hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": str(len(self.jobs)), "MD5OfMessageBody": digest}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    aws: SmallAws

    def _answer(self) -> None:
        target = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
        key = unquote(target.path).removeprefix(f"/{BUCKET}/")
        operation = self._operation(query)
        try:
            self.aws.stand_still(operation, key, after=False)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            refusal = self.aws.refusals.get(operation)
            octets = (
                json.dumps({"__type": refusal}).encode()
                if refusal
                else self.aws.do(operation, key, query, body)
            )
            self.aws.stand_still(operation, key, after=True)
        except RequestLost:
            self.close_connection = True
            return
        self.send_response(400 if refusal else 200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 (the base class's names)

    def _operation(self, query: dict[str, str]) -> str:
        named = self.headers.get("X-Amz-Target")
        if named is not None:
            return named.partition(".")[2]
        match self.command:
            case "PUT":
                return "UploadPart" if "partNumber" in query else "PutObject"
            case "POST":
                return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
            case "DELETE":
                return "AbortMultipartUpload"
        return self.command

    def handle(self) -> None:
        with suppress(ConnectionError):  # whoever is killed says no goodbye
            super().handle()

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Nobody reads it."""
