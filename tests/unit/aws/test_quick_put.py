"""The quick PUT over real sockets: what S3 is sent, and what is left to the SDK."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from empath.aws import spool as spool_module
from empath.aws.part import PIECE, Part
from empath.aws.quick_put import QuickPut
from empath.aws.session import USER_AGENT, AwsSession
from empath.aws.spool import S3Spool
from empath.domain.errors import SpoolTrouble


@dataclass
class Request:
    line: str
    fields: dict[str, str]
    body: bytes


@dataclass
class ScriptedS3:
    """Answers with `statuses` in turn, then with 200; 0 closes the connection instead."""

    statuses: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            line, *lines = head.decode("latin-1").strip().split("\r\n")
            fields = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
            if "expect" in fields:  # the SDK asks before it sends a body
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            self.requests.append(Request(line, fields, body))
            status = self.statuses.pop(0) if self.statuses else 200
            if status == 0:
                break
            writer.write(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)
        writer.close()


@asynccontextmanager
async def session_on(s3: ScriptedS3) -> AsyncIterator[AwsSession]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await s3.answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with AwsSession(
        endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id="AKID", aws_secret_access_key="key"
    ) as session:
        yield session
    server.close()


@asynccontextmanager
async def quick_put_on(s3: ScriptedS3) -> AsyncIterator[QuickPut]:
    async with session_on(s3) as session:
        yield QuickPut(await session.s3(), "bucket")


async def content(octets: bytes) -> AsyncIterator[bytes]:
    yield octets


@pytest.mark.parametrize("octets", [b"", b"Subject: x\r\n\r\n", os.urandom(3 * PIECE)], ids=len)
async def test_a_request_is_conditional_and_signed_over_its_body(octets: bytes) -> None:
    s3 = ScriptedS3()
    async with quick_put_on(s3) as quick:
        assert await quick.put("messages/a b", Part(octets))
    [request] = s3.requests
    assert request.line == "PUT /bucket/messages/a%20b HTTP/1.1"
    assert request.body == octets
    assert request.fields["if-none-match"] == "*"
    assert request.fields["user-agent"] == USER_AGENT
    assert request.fields["x-amz-content-sha256"] == hashlib.sha256(octets).hexdigest()
    kind, credential, signed, _ = request.fields["authorization"].split(" ")
    assert kind == "AWS4-HMAC-SHA256"
    assert credential.startswith("Credential=AKID/")
    assert credential.endswith("/eu-west-1/s3/aws4_request,")
    assert signed == "SignedHeaders=host;if-none-match;x-amz-content-sha256;x-amz-date,"


async def test_the_endpoint_is_resolved_once() -> None:
    s3 = ScriptedS3()
    async with session_on(s3) as session:
        client = await session.s3()
        resolved = []
        client.meta.events.register("before-endpoint-resolution", lambda **_: resolved.append(1))
        quick = QuickPut(client, "bucket")
        assert [await quick.put(str(number), b"x") for number in range(3)] == [True] * 3
    assert len(resolved) == 1


async def test_an_object_that_was_there_already_is_stored() -> None:
    async with quick_put_on(ScriptedS3([412])) as quick:
        assert await quick.put("messages/1", b"x")


@pytest.mark.parametrize("status", [0, 204, 301, 307, 400, 403, 404, 409, 500, 503])
async def test_whatever_else_s3_says_nothing_is_known_to_be_stored(status: int) -> None:
    s3 = ScriptedS3([status, status])  # aiohttp itself tries once more when a connection breaks
    async with quick_put_on(s3) as quick:
        assert not await quick.put("messages/1", b"x")
    assert len(s3.requests) == (2 if status == 0 else 1)


async def test_without_credentials_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    async with AwsSession(endpoint_url="http://127.0.0.1:1", region_name="eu-west-1") as session:
        assert not await QuickPut(await session.s3(), "bucket").put("messages/1", b"x")


async def test_a_kind_of_bucket_that_is_signed_otherwise_is_left_to_the_sdk() -> None:
    async with AwsSession(
        region_name="us-east-1", aws_access_key_id="AKID", aws_secret_access_key="key"
    ) as session:
        express = QuickPut(await session.s3(), "spool--use1-az4--x-s3")
        assert not await express.put("messages/1", b"x")


@pytest.mark.parametrize("first", [409, 503])
async def test_what_the_quick_try_does_not_store_the_sdk_does(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "CONFLICT_PAUSES", (0, 0, 0))
    s3 = ScriptedS3([first, 409, 200])
    async with session_on(s3) as session:
        client = await session.s3()
        spool = S3Spool(client, "bucket", QuickPut(client, "bucket"))
        assert await spool.put("messages/1", content(b"xyz")) == 3
    assert [(request.line, request.body) for request in s3.requests] == [
        ("PUT /bucket/messages/1 HTTP/1.1", b"xyz")
    ] * 3


async def test_a_refusal_that_stays_is_trouble() -> None:
    async with session_on(ScriptedS3([403] * 2)) as session:
        client = await session.s3()
        with pytest.raises(SpoolTrouble, match="storing messages/1"):
            await S3Spool(client, "bucket", QuickPut(client, "bucket")).put("messages/1", content(b"x"))
