"""The Spool contract: byte-exact, written once, honest about what is not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from empath.aws.quick_put import QuickPut
from empath.aws.spool import PART_SIZE, S3Spool, kept_key_of
from empath.domain.content_policy import KEEP_DAYS
from empath.domain.errors import SpoolObjectMissing, SpoolTrouble
from empath.ports import Spool
from empath.testing.memory_spool import MemorySpool

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(params=["memory", "aws", "quick"], loop_scope="session")
async def spool(request: pytest.FixtureRequest, s3: S3Client) -> Spool:
    if request.param == "memory":
        return MemorySpool()
    bucket = f"spool-{uuid.uuid4().hex}"
    await s3.create_bucket(Bucket=bucket)
    return S3Spool(s3, bucket, QuickPut(s3, bucket) if request.param == "quick" else None)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content_of(spool: Spool, key: str) -> bytes:
    return b"".join([chunk async for chunk in spool.read(key)])


@pytest.mark.parametrize(
    "content",
    [b"", b"Subject: x\r\n\r\n.\r\n..\r\n", b"bare\nand\rbare\x00\xff\x80", bytes(range(256)) * 1000],
    ids=["empty", "dots", "every control", "256 kB"],
)
async def test_what_is_read_is_what_was_put_octet_by_octet(spool: Spool, content: bytes) -> None:
    assert await spool.put("messages/1", chunks(content[:3], content[3:])) == len(content)
    assert await content_of(spool, "messages/1") == content


@pytest.mark.parametrize("size", [PART_SIZE, PART_SIZE + 1, 2 * PART_SIZE, 2 * PART_SIZE + 12_345])
async def test_an_object_of_any_number_of_parts_is_byte_exact(spool: Spool, size: int) -> None:
    content = os.urandom(size)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield content[start : start + 65_536]

    assert await spool.put("messages/large", in_pieces()) == size
    assert await content_of(spool, "messages/large") == content


async def test_one_chunk_longer_than_several_parts_is_byte_exact(spool: Spool) -> None:
    content = os.urandom(3 * PART_SIZE + 7)
    assert await spool.put("messages/large", chunks(content)) == len(content)
    assert await content_of(spool, "messages/large") == content


@pytest.mark.parametrize("size", [5, 2 * PART_SIZE + 5])
async def test_a_key_is_never_overwritten_and_putting_it_again_is_success(spool: Spool, size: int) -> None:
    first, second = b"1" * size, b"2" * size
    await spool.put("messages/1", chunks(first))
    assert await spool.put("messages/1", chunks(second)) == size
    assert await content_of(spool, "messages/1") == first


async def kept_by(spool: Spool) -> dict[str, bytes]:
    if isinstance(spool, MemorySpool):
        return {f"kept/{days}/{key}": content for key, (content, days) in spool.kept.items()}
    assert isinstance(spool, S3Spool)
    return {
        key: await content_of(spool, key)
        for days in KEEP_DAYS
        for key in [kept_key_of("messages/1", days)]
        if await _is_there(spool, key)
    }


async def _is_there(spool: Spool, key: str) -> bool:
    try:
        await content_of(spool, key)
    except SpoolObjectMissing:
        return False
    return True


async def test_what_is_kept_outlives_its_object_and_keeping_it_again_changes_nothing(spool: Spool) -> None:
    await spool.put("messages/1", chunks(b"Subject: x\r\n\r\n"))
    for _ in range(2):
        await spool.keep("messages/1", 90)
        await spool.delete("messages/1")
        assert await kept_by(spool) == {"kept/90/messages/1": b"Subject: x\r\n\r\n"}
    with pytest.raises(SpoolObjectMissing):
        await content_of(spool, "messages/1")


async def test_an_object_in_parts_is_kept_whole(spool: Spool) -> None:
    content = os.urandom(2 * PART_SIZE + 5)
    await spool.put("messages/1", chunks(content))
    await spool.keep("messages/1", 7)
    assert await kept_by(spool) == {"kept/7/messages/1": content}


@pytest.mark.parametrize("size", [5, 2 * PART_SIZE + 5])
async def test_nothing_is_stored_when_the_content_raises(spool: Spool, size: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * size
        raise ConnectionResetError("the client is gone")

    with pytest.raises(ConnectionResetError):
        await spool.put("messages/1", broken())
    with pytest.raises(SpoolObjectMissing):
        await content_of(spool, "messages/1")


async def test_reading_what_is_not_there_says_so(spool: Spool) -> None:
    with pytest.raises(SpoolObjectMissing):
        await content_of(spool, "messages/none")


async def test_a_deleted_object_is_gone_and_deleting_again_is_success(spool: Spool) -> None:
    await spool.put("messages/1", chunks(b"x"))
    await spool.delete("messages/1")
    await spool.delete("messages/1")
    with pytest.raises(SpoolObjectMissing):
        await content_of(spool, "messages/1")


async def test_reading_gives_pieces_so_that_memory_is_bounded(spool: Spool) -> None:
    await spool.put("messages/1", chunks(b"x" * 1_000_000))
    assert max([len(chunk) async for chunk in spool.read("messages/1")]) <= 262_144


async def test_a_reader_that_stops_early_breaks_nothing(spool: Spool) -> None:
    await spool.put("messages/1", chunks(b"x" * 1_000_000))
    async for _ in spool.read("messages/1"):
        break
    assert len(await content_of(spool, "messages/1")) == 1_000_000


async def test_what_s3_does_not_take_is_spool_trouble(s3: S3Client) -> None:
    nowhere = S3Spool(s3, "no-such-bucket-here")
    with pytest.raises(SpoolTrouble):
        await nowhere.put("messages/1", chunks(b"x"))
    with pytest.raises(SpoolTrouble):
        await nowhere.put("messages/1", chunks(b"x" * (PART_SIZE + 1)))
    with pytest.raises(SpoolTrouble):
        await content_of(nowhere, "messages/1")
    with pytest.raises(SpoolTrouble):
        await nowhere.delete("messages/1")


async def test_no_part_is_left_behind_when_an_upload_breaks_off(s3: S3Client) -> None:
    bucket = f"spool-{uuid.uuid4().hex}"
    await s3.create_bucket(Bucket=bucket)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (PART_SIZE + 1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await S3Spool(s3, bucket).put("messages/1", broken())
    answer = await s3.list_multipart_uploads(Bucket=bucket)
    assert not answer.get("Uploads")
