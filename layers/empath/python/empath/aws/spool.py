"""The Spool on S3.

A key is written at most once: every write is conditional on the object not being there (`If-None-Match: *`),
and "it is there" counts as success, for it is our own earlier try. Up to one part goes out in one request;
what is longer streams as a multipart upload, one part in memory at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from empath.aws.errors import FOREIGN, code_of, http_status_of, trouble
from empath.aws.part import PIECE, Part, PartBuffer
from empath.aws.quick_put import QuickPut
from empath.domain.content_policy import KeepDays
from empath.domain.errors import SpoolObjectMissing, SpoolTrouble

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

PART_SIZE = 5 * 1_048_576
"""Octets; S3 takes no smaller parts but the last."""

READ_CHUNK = 131_072
"""Octets that `read` gives at a time."""

CONFLICT_PAUSES = (0.05, 0.2, 0.5)
"""Seconds. 409 ConditionalRequestConflict: another write of this key is under way; S3 asks to try again."""

_THERE_ALREADY = 412
_CONFLICT = 409

logger = logging.getLogger(__name__)


def kept_key_of(key: str, days: KeepDays) -> str:
    """Where an object is kept; the bucket's lifecycle has a rule for each number of days."""
    return f"kept/{days}/{key}"


class S3Spool:
    def __init__(self, client: S3Client, bucket: str, quick: QuickPut | None = None) -> None:
        """With `quick` an object of one request is tried in that way first."""
        self._client = client
        self._bucket = bucket
        self._quick = quick
        self.completing = 0
        """Objects whose last request is under way: each is there, or has failed, within one answer of S3."""

    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        # Only our own calls are inside `trouble`: what `content` raises is the caller's and passes through.
        buffer = PartBuffer(PART_SIZE)
        upload: _MultipartUpload | None = None
        size = 0
        try:
            async for chunk in content:
                size += len(chunk)
                rest = memoryview(chunk)
                while rest := buffer.take(rest):
                    if upload is None:
                        upload = await _MultipartUpload.begin(self._client, self._bucket, key)
                    await upload.add(buffer.part())
            if upload is not None:
                await upload.add(buffer.part())
            self.completing += 1
            try:
                await (self._put_object(key, buffer.part()) if upload is None else upload.complete())
            finally:
                self.completing -= 1
        except BaseException:
            # Cancellation too: parts that belong to no object are stored and paid for until someone aborts.
            if upload is not None:
                await upload.abort()
            raise
        return size

    async def read(self, key: str) -> AsyncIterator[bytes]:
        with trouble(SpoolTrouble, f"reading {key}"):
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) in {"NoSuchKey", "404"}:
                    raise SpoolObjectMissing(key) from error
                raise
        async with answer["Body"] as body:
            while True:
                # Not around the yield: what the reader raises is not ours.
                with trouble(SpoolTrouble, f"reading {key}"):
                    chunk = await body.read(READ_CHUNK)
                if not chunk:
                    return
                yield chunk

    async def keep(self, key: str, days: KeepDays) -> None:
        with trouble(SpoolTrouble, f"keeping {key}"):
            try:
                await self._client.copy_object(
                    Bucket=self._bucket,
                    Key=kept_key_of(key, days),
                    CopySource={"Bucket": self._bucket, "Key": key},
                )
            except ClientError as error:
                if code_of(error) not in {"NoSuchKey", "404"}:
                    raise

    async def delete(self, key: str) -> None:
        with trouble(SpoolTrouble, f"deleting {key}"):
            await self._client.delete_object(Bucket=self._bucket, Key=key)

    async def _put_object(self, key: str, part: Part) -> None:
        # Not worth pieces, and aiohttp copies any bytearray.
        octets: Any = part if len(part) > PIECE else bytes(part)
        if self._quick is not None and await self._quick.put(key, octets):
            return
        with trouble(SpoolTrouble, f"storing {key}"):
            for pause in (*CONFLICT_PAUSES, None):
                try:
                    await self._client.put_object(Bucket=self._bucket, Key=key, Body=octets, IfNoneMatch="*")
                    return
                except ClientError as error:
                    status = http_status_of(error)
                    if status == _THERE_ALREADY:
                        return
                    if status != _CONFLICT or pause is None:
                        raise
                    await asyncio.sleep(pause)


class _MultipartUpload:
    """One object in parts; nothing shows under its key before `complete`."""

    def __init__(self, client: S3Client, bucket: str, key: str, upload_id: str) -> None:
        self._client = client
        self._name: Any = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
        self._what = f"storing {key} in parts"
        self._parts: list[CompletedPartTypeDef] = []
        self._is_over = False

    @classmethod
    async def begin(cls, client: S3Client, bucket: str, key: str) -> _MultipartUpload:
        with trouble(SpoolTrouble, f"storing {key} in parts"):
            answer = await client.create_multipart_upload(Bucket=bucket, Key=key)
        return cls(client, bucket, key, answer["UploadId"])

    async def add(self, part: Part) -> None:
        number, octets = len(self._parts) + 1, cast(Any, part)  # the stubs know of bytes and files
        with trouble(SpoolTrouble, self._what):
            answer = await self._client.upload_part(**self._name, PartNumber=number, Body=octets)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    async def complete(self) -> None:
        with trouble(SpoolTrouble, self._what):
            try:
                await self._client.complete_multipart_upload(
                    **self._name, MultipartUpload={"Parts": self._parts}, IfNoneMatch="*"
                )
            except ClientError as error:
                if http_status_of(error) != _THERE_ALREADY:
                    raise
                await self.abort()
        self._is_over = True

    async def abort(self) -> None:
        """Give the parts up. Should that fail, the bucket's lifecycle does it within a day."""
        if self._is_over:
            return
        self._is_over = True
        try:
            await self._client.abort_multipart_upload(**self._name)
        except FOREIGN:
            logger.warning("an unfinished upload is left to the bucket's lifecycle", exc_info=True)
