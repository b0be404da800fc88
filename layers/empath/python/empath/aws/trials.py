"""Trials of sites in the `control` table: `trial#<site>` with `state`, `until`, `forgotten_at`, `owner`.

One conditional write each. A refused one brings along what is there.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.attributes import decode_item, encode
from empath.aws.errors import CONDITION_FAILED, code_of, trouble
from empath.aws.expressions import instant, text
from empath.domain.errors import ControlTrouble
from empath.domain.instant import parse_instant
from empath.domain.trial import Trial

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


NOBODY = "-"

_NAMES = {"#state": "state", "#until": "until", "#owner": "owner"}
_SET = (
    "SET #state = :state, #until = :until, #owner = :owner, forgotten_at = :forgotten_at,"
    " expires_at = :expires_at"
)


class DynamoTrials:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def begin(self, site: str, *, owner: str, now: datetime) -> Trial:
        trial = Trial.begun(owner, now)
        with trouble(ControlTrouble, f"beginning a trial of {site}"):
            try:
                await self._client.update_item(
                    TableName=self._table,
                    Key=_key(site),
                    UpdateExpression=_SET,
                    ConditionExpression="attribute_not_exists(pk) OR forgotten_at <= :now OR #owner = :owner",
                    ExpressionAttributeNames=_NAMES,
                    ExpressionAttributeValues={**_values(trial), ":now": instant(now)},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
                return trial
            except ClientError as error:
                if code_of(error) != CONDITION_FAILED:
                    raise
                response: Any = error.response
        return _trial(site, response.get("Item", {}))

    async def end(self, site: str, trial: Trial | None) -> None:
        with trouble(ControlTrouble, f"ending the trial of {site}"):
            if trial is None:
                await self._client.delete_item(TableName=self._table, Key=_key(site))
                return
            await self._client.update_item(
                TableName=self._table,
                Key=_key(site),
                UpdateExpression=_SET,
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues=_values(trial),
            )


def _key(site: str) -> dict[str, Any]:
    return {"pk": {"S": f"trial#{site}"}}


def _values(trial: Trial) -> dict[str, Any]:
    return {
        ":state": text(trial.state),
        ":until": instant(trial.until),
        ":owner": text(trial.owner or NOBODY),
        ":forgotten_at": instant(trial.forgotten_at),
        ":expires_at": encode(math.ceil(trial.forgotten_at.timestamp())),
    }


def _trial(site: str, item: dict[str, Any]) -> Trial:
    """Raises ControlTrouble for one that this release cannot read."""
    try:
        words = decode_item(item)
        return Trial(words["state"], parse_instant(words["until"]), words["owner"])
    except (KeyError, TypeError, ValueError) as error:
        raise ControlTrouble(f"trial#{site} holds no trial: {type(error).__name__}: {error}") from error
