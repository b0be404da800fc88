"""An S3 that stands still, over real sockets: the client waits, memory does not grow, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from empath.aws.part import PIECE
from empath.aws.session import AwsSession
from empath.aws.spool import PART_SIZE, S3Spool
from empath.ingress.listener import serve
from empath.ingress.settings import IngressSettings
from empath.pipeline.accept import Acceptance
from empath.ports import QueueName
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.metrics import CountedMetrics

SIZE = 40 * 1_048_576
"""More than a part and what the sockets of two hops hold."""

LINE = b"x" * 70 + b"\r\n"
CONTENT = LINE * (SIZE // len(LINE))
UPLOAD = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"


@dataclass
class StalledS3:
    """Takes an upload's parts once `go` is set; reads nothing of them before."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    octets: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._answer_one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        method, target = head.split(" ")[:2]
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        if "partnumber" in target:
            self.stalled.set()
            await self.go.wait()
            self.octets += length
        while length:
            octets = await reader.read(min(length, PIECE))
            if not octets:
                raise ConnectionResetError
            length -= len(octets)
        if method == "delete":
            self.aborted.set()
        body = b"" if method != "post" else UPLOAD if "?uploads" in target else COMPLETED
        writer.write(b"HTTP/1.1 200 OK\r\nETag: e\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@dataclass
class Bench:
    s3: StalledS3
    queue: MemoryJobQueue
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send_content(self) -> None:
        """Greet, and give all of a message to the socket; what it does not take waits."""
        envelope = b"MAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\nDATA\r\n"
        self.writer.write(b"EHLO client.example\r\n" + envelope)
        while not (await self.reader.readline()).startswith(b"354"):
            pass
        self.writer.write(CONTENT + b".\r\n")

    async def unsent(self) -> int:
        """Octets that still wait once nothing moves any more."""
        samples = [-1]
        while len(samples) < 10 or len(set(samples[-10:])) > 1:
            samples.append(self.writer.transport.get_write_buffer_size())
            await asyncio.sleep(0.02)
        return samples[-1]


@asynccontextmanager
async def streaming() -> AsyncIterator[Bench]:
    s3, clock = StalledS3(), ManualClock()
    server = await asyncio.start_server(s3.answer, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with AwsSession(
        endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    ) as session:
        queue = MemoryJobQueue(clock)
        acceptance = Acceptance(S3Spool(await session.s3(), "spool"), queue)
        listener = await serve(IngressSettings(port=0), acceptance, clock, SequentialIds(), CountedMetrics())
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        try:
            async with asyncio.timeout(30):
                yield Bench(s3, queue, reader, writer)
        finally:
            s3.go.set()
            writer.transport.abort()
            await listener.close(grace=0)
            server.close()


async def test_a_stalled_s3_pauses_the_client_and_no_octet_is_lost_when_it_goes_on() -> None:
    async with streaming() as bench:
        await bench.send_content()
        await bench.s3.stalled.wait()
        # What is on its way lies in one part and the kernel's buffers, whatever the message's size.
        assert await bench.unsent() > SIZE // 4
        bench.s3.go.set()
        assert (await bench.reader.readline()).startswith(b"250")
        assert bench.s3.octets == len(CONTENT)
        assert len(bench.queue.pending(QueueName.ACCEPTED)) == 1


async def test_an_upload_whose_client_goes_away_is_aborted_and_no_job_is_sent() -> None:
    async with streaming() as bench:
        await bench.send_content()
        await bench.s3.stalled.wait()
        bench.writer.transport.abort()
        bench.s3.go.set()
        await bench.s3.aborted.wait()
        assert bench.s3.octets <= 3 * PART_SIZE
        assert bench.queue.pending(QueueName.ACCEPTED) == []
