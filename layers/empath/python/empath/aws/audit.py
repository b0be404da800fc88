"""Audit blocks in S3 and the heads of their chains in the `control` table: items `audit#<shard>`.

A block is written once (`If-None-Match: *`); the bucket keeps versions, and under object lock nobody can take
one away. A head moves on only from the block before it, by a condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.attributes import decode_item, encode_item
from empath.aws.errors import CONDITION_FAILED, code_of, http_status_of, trouble
from empath.domain.audit_chain import Head, Link
from empath.domain.errors import AuditTrouble

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client

SCHEMA = 1
_THERE_ALREADY = 412
_CONFLICT = 409
CONFLICT_PAUSES = (0.05, 0.2, 0.5)
"""Seconds. 409 ConditionalRequestConflict: another write of this key is under way; S3 asks to try again."""


class S3Audit:
    def __init__(self, s3: S3Client, bucket: str, dynamodb: DynamoDBClient, table: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._dynamodb = dynamodb
        self._table = table
        self._heads: dict[int, Head] = {}
        """As this process knows them. One that is behind costs a request and does no harm."""

    async def put_new(self, key: str, content: bytes) -> bool:
        with trouble(AuditTrouble, f"storing {key}"):
            for pause in (*CONFLICT_PAUSES, None):
                try:
                    await self._s3.put_object(
                        Bucket=self._bucket,
                        Key=key,
                        Body=content,
                        ContentType="application/jsonl",
                        IfNoneMatch="*",
                        # S3 takes nothing for a bucket with object lock that has no checksum.
                        ChecksumAlgorithm="CRC32",
                    )
                except ClientError as error:
                    status = http_status_of(error)
                    if status == _THERE_ALREADY:
                        return False
                    if status != _CONFLICT or pause is None:
                        raise
                    await asyncio.sleep(pause)
                else:
                    return True
        raise AssertionError("unreachable: the last pause is None")

    async def get(self, key: str) -> bytes | None:
        with trouble(AuditTrouble, f"reading {key}"):
            try:
                answer = await self._s3.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) in {"NoSuchKey", "404"}:
                    return None
                raise
            async with answer["Body"] as body:
                content: bytes = await body.read()
            return content

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        token: dict[str, Any] = {}
        while True:
            with trouble(AuditTrouble, f"listing {prefix}"):
                page = await self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **token)
            for entry in page.get("Contents", ()):
                yield entry["Key"]
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def head(self, shard: int, *, fresh: bool = True) -> Head | None:
        if not fresh and shard in self._heads:
            return self._heads[shard]
        with trouble(AuditTrouble, f"reading the head of shard {shard}"):
            answer = await self._dynamodb.get_item(
                TableName=self._table, Key={"pk": {"S": _pk(shard)}}, ConsistentRead=True
            )
        item = answer.get("Item")
        if item is None:
            return None
        self._heads[shard] = _head_of(shard, item)
        return self._heads[shard]

    async def advance(self, head: Head) -> bool:
        words: dict[str, Any] = {
            "number": head.number,
            "next_day": head.next_day.isoformat(),
            "recent": head.recent,
            "schema": SCHEMA,
        }
        if head.last is not None:
            words |= {"last_key": head.last.key, "last_sha256": head.last.sha256}
        values = {f":{name}": value for name, value in encode_item(words).items()}
        condition = "attribute_not_exists(#pk)"
        names = {f"#{name}": name for name in words}
        if head.number:
            condition, values[":before"] = "#number = :before", {"N": str(head.number - 1)}
        else:
            names["#pk"] = "pk"
        with trouble(AuditTrouble, f"moving the head of shard {head.shard}"):
            try:
                await self._dynamodb.update_item(
                    TableName=self._table,
                    Key={"pk": {"S": _pk(head.shard)}},
                    UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in words),
                    ConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                )
            except ClientError as error:
                if code_of(error) == CONDITION_FAILED:
                    self._heads.pop(head.shard, None)
                    return False
                raise
        self._heads[head.shard] = head
        return True


def _pk(shard: int) -> str:
    return f"audit#{shard}"


def _head_of(shard: int, item: Any) -> Head:
    try:
        words = decode_item(item)
        if words["schema"] != SCHEMA:
            raise ValueError(f"schema {words['schema']!r} where this release reads {SCHEMA}")
        key = words.get("last_key")
        return Head(
            shard=shard,
            number=int(words["number"]),
            next_day=date.fromisoformat(words["next_day"]),
            last=Link(key, words["last_sha256"]) if key is not None else None,
            recent=tuple(words["recent"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AuditTrouble(f"the head of shard {shard} cannot be read: {error}") from error
