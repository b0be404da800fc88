"""Allowances in the `control` table: items `quota#<key>#<start of the window>` with one number.

One update per block, whatever becomes of it: the number counts what was asked for, and what is granted is
the part of it below the limit. So no two answers overlap and nothing is tried twice; once the limit is
reached, a condition keeps the number from growing.

`expires_at`, the table's time to live, lets an item go an hour after its window.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from empath.aws.errors import CONDITION_FAILED, code_of, trouble
from empath.domain.errors import ControlTrouble
from empath.domain.instant import format_instant
from empath.ports.quotas import window_start

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEPT_FOR = timedelta(hours=1)
"""Longer than the clocks of two tasks can be apart, by far."""


class DynamoQuotas:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def take(self, key: str, wanted: int, *, limit: int, window: timedelta, now: datetime) -> int:
        if wanted <= 0 or limit <= 0:
            return 0
        start = window_start(now, window)
        expires_at = math.ceil((start + window + KEPT_FOR).timestamp())
        with trouble(ControlTrouble, "taking from a quota"):
            try:
                answer = await self._client.update_item(
                    TableName=self._table,
                    Key={"pk": {"S": f"quota#{key}#{format_instant(start)}"}},
                    UpdateExpression="SET #expires_at = :expires_at ADD #asked :wanted",
                    ConditionExpression="attribute_not_exists(#asked) OR #asked < :limit",
                    ExpressionAttributeNames={"#asked": "asked", "#expires_at": "expires_at"},
                    ExpressionAttributeValues={
                        ":wanted": {"N": str(wanted)},
                        ":limit": {"N": str(limit)},
                        ":expires_at": {"N": str(expires_at)},
                    },
                    ReturnValues="UPDATED_NEW",
                )
            except ClientError as error:
                if code_of(error) == CONDITION_FAILED:
                    return 0
                raise
        before = int(answer["Attributes"]["asked"]["N"]) - wanted
        return min(wanted, limit - before)
