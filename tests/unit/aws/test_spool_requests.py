"""What the S3 adapter makes of answers that emulators do not give."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from empath.aws import spool as spool_module
from empath.aws.spool import PART_SIZE, S3Spool
from empath.domain.errors import SpoolTrouble
from tests.unit.aws.scripted import ScriptedClient, refusal

CONFLICT = refusal(409, "ConditionalRequestConflict")
THERE = refusal(412, "PreconditionFailed")
SLOW_DOWN = refusal(503, "SlowDown")


def spool_on(client: ScriptedClient) -> S3Spool:
    return S3Spool(cast(Any, client), "bucket")


async def content(size: int = 3) -> AsyncIterator[bytes]:
    yield b"x" * size


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "CONFLICT_PAUSES", (0, 0, 0))


async def test_every_write_is_conditional_on_there_being_no_object() -> None:
    client = ScriptedClient(put_object=[{}])
    await spool_on(client).put("messages/1", content())
    [(_, request)] = client.calls
    assert (request["IfNoneMatch"], request["Body"]) == ("*", b"xxx")


async def test_a_small_object_is_one_request() -> None:
    client = ScriptedClient(put_object=[{}])
    await spool_on(client).put("messages/1", content(PART_SIZE))
    assert client.operations == ["put_object"]


async def test_a_conflict_with_a_write_under_way_is_tried_again() -> None:
    client = ScriptedClient(put_object=[CONFLICT, CONFLICT, THERE])
    assert await spool_on(client).put("messages/1", content()) == 3
    assert len(client.calls) == 3


async def test_a_conflict_that_does_not_end_is_trouble() -> None:
    client = ScriptedClient(put_object=[CONFLICT] * 4)
    with pytest.raises(SpoolTrouble, match="ConditionalRequestConflict"):
        await spool_on(client).put("messages/1", content())


async def test_a_part_that_s3_does_not_take_aborts_the_upload() -> None:
    client = ScriptedClient(
        create_multipart_upload=[{"UploadId": "u"}],
        upload_part=[{"ETag": "1"}, SLOW_DOWN],
        abort_multipart_upload=[{}],
    )
    with pytest.raises(SpoolTrouble, match="SlowDown"):
        await spool_on(client).put("messages/1", content(3 * PART_SIZE))
    assert client.operations[-1] == "abort_multipart_upload"


async def test_an_abort_that_fails_does_not_hide_what_went_wrong() -> None:
    client = ScriptedClient(
        create_multipart_upload=[{"UploadId": "u"}],
        upload_part=[SLOW_DOWN],
        abort_multipart_upload=[SLOW_DOWN],
    )
    with pytest.raises(SpoolTrouble, match=r"storing messages/1 in parts: .*SlowDown"):
        await spool_on(client).put("messages/1", content(2 * PART_SIZE))


async def test_parts_of_an_object_that_is_there_already_are_given_up_and_that_is_success() -> None:
    client = ScriptedClient(
        create_multipart_upload=[{"UploadId": "u"}],
        upload_part=[{"ETag": "1"}, {"ETag": "2"}],
        complete_multipart_upload=[THERE],
        abort_multipart_upload=[{}],
    )
    assert await spool_on(client).put("messages/1", content(PART_SIZE + 1)) == PART_SIZE + 1
    assert client.operations[-2:] == ["complete_multipart_upload", "abort_multipart_upload"]


async def test_an_object_counts_as_completing_during_its_last_request_only() -> None:
    class Watching(ScriptedClient):
        def __getattr__(self, operation: str) -> Any:
            seen.append((operation, spool.completing))
            return super().__getattr__(operation)

    seen: list[tuple[str, int]] = []
    client = Watching(
        put_object=[SLOW_DOWN],
        create_multipart_upload=[{"UploadId": "u"}],
        upload_part=[{"ETag": "1"}, {"ETag": "2"}],
        complete_multipart_upload=[{}],
    )
    spool = spool_on(client)
    with pytest.raises(SpoolTrouble):
        await spool.put("messages/1", content())
    await spool.put("messages/2", content(PART_SIZE + 1))
    assert spool.completing == 0
    assert seen == [
        ("put_object", 1),
        ("create_multipart_upload", 0),
        ("upload_part", 0),
        ("upload_part", 0),
        ("complete_multipart_upload", 1),
    ]
