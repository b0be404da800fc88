"""The Inventory over the spool's bucket and the ledger's table.

A page of the bucket is a ListObjectsV2 of up to 1000 keys; a page of the table a Scan of 1 MB, of which only
the items without `expires_at` come back; 100 messages are looked up in a BatchGetItem.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.batch_get import batch_get
from empath.aws.errors import code_of, trouble
from empath.aws.expressions import text
from empath.aws.items import MESSAGE, key_of_message, record_of_image
from empath.domain.errors import LedgerTrouble, SpoolTrouble
from empath.ports.inventory import Item, RawObject, Unreadable, Upload

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client

PREFIX = "messages/"
"""Beside the raw messages the bucket holds what health checks look for."""

_GONE = frozenset({"404", "NoSuchKey", "NoSuchUpload"})


class AwsInventory:
    def __init__(self, s3: S3Client, bucket: str, dynamodb: DynamoDBClient, table: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._dynamodb = dynamodb
        self._table = table

    async def objects(self) -> AsyncIterator[Sequence[RawObject]]:
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": PREFIX}
        while True:
            with trouble(SpoolTrouble, "listing the raw messages"):
                page = await self._s3.list_objects_v2(**request)
            yield [
                RawObject(entry["Key"], entry["Size"], entry["LastModified"])
                for entry in page.get("Contents", ())
            ]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    async def object(self, key: str) -> RawObject | None:
        with trouble(SpoolTrouble, f"looking for {key}"):
            try:
                answer = await self._s3.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) in _GONE:
                    return None
                raise
        return RawObject(key, answer["ContentLength"], answer["LastModified"])

    async def uploads(self) -> AsyncIterator[Sequence[Upload]]:
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": PREFIX}
        while True:
            with trouble(SpoolTrouble, "listing the unfinished uploads"):
                page = await self._s3.list_multipart_uploads(**request)
            yield [
                Upload(entry["Key"], entry["UploadId"], entry["Initiated"])
                for entry in page.get("Uploads", ())
            ]
            if not page.get("IsTruncated"):
                return
            request |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def give_up(self, upload: Upload) -> None:
        with trouble(SpoolTrouble, f"giving up the upload of {upload.key}"):
            try:
                await self._s3.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id
                )
            except ClientError as error:
                if code_of(error) not in _GONE:
                    raise

    async def unclosed(self, segment: int, segments: int) -> AsyncIterator[Sequence[Item]]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Segment": segment,
            "TotalSegments": segments,
            "FilterExpression": "attribute_not_exists(expires_at)",
        }
        while True:
            with trouble(LedgerTrouble, "reading the ledger through"):
                page = await self._dynamodb.scan(**request)
            yield [_item(image) for image in page["Items"]]
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def closed(self, message_ids: Collection[str]) -> Mapping[str, bool]:
        keys = [key_of_message(message_id) for message_id in dict.fromkeys(message_ids)]
        items = await batch_get(
            self._dynamodb, self._table, keys, LedgerTrouble, "looking messages up", "pk, expires_at"
        )
        return {item["pk"]["S"]: "expires_at" in item for item in items}

    async def story(self, message_id: str) -> Sequence[Item]:
        items: list[Item] = []
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": text(message_id)},
        }
        while True:
            with trouble(LedgerTrouble, f"reading {message_id}"):
                page = await self._dynamodb.query(**request)
            items += map(_item, page["Items"])
            if not page.get("LastEvaluatedKey"):
                return items
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _item(image: Mapping[str, Any]) -> Item:
    """An item as a record, or why it is none."""
    name = image.get("sk", {}).get("S", "")
    try:
        record = record_of_image(image)
        fault = f"neither {MESSAGE} nor a delivery"
    except LedgerTrouble as error:
        record, fault = None, str(error)
    return record or Unreadable(image.get("pk", {}).get("S", ""), name, fault)
