"""What the inventory makes of answers that emulators do not give: many pages, keys left out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from empath.aws import batch_get
from empath.aws.inventory import AwsInventory
from empath.domain.errors import LedgerTrouble
from empath.ports.inventory import Unreadable
from tests.unit.aws.scripted import ScriptedClient

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def inventory_on(client: ScriptedClient) -> AwsInventory:
    return AwsInventory(cast(Any, client), "bucket", cast(Any, client), "table")


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": name}, "sk": {"S": "message"}, "schema": {"N": "99"}, **more}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_get, "PAUSES", (0, 0, 0))


async def test_objects_are_listed_to_their_last_page() -> None:
    def page(*names: str, **more: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": name, "Size": 1, "LastModified": NOW} for name in names], **more}

    client = ScriptedClient(
        list_objects_v2=[page("a", "b", IsTruncated=True, NextContinuationToken="t"), page("c")]
    )
    pages = [[one.key for one in page] async for page in inventory_on(client).objects()]
    assert pages == [["a", "b"], ["c"]]
    assert [request.get("ContinuationToken") for _, request in client.calls] == [None, "t"]
    assert {request["Prefix"] for _, request in client.calls} == {"messages/"}


async def test_uploads_are_listed_to_their_last_page() -> None:
    def page(name: str, **more: Any) -> dict[str, Any]:
        return {"Uploads": [{"Key": name, "UploadId": "u", "Initiated": NOW}], **more}

    first = page("a", IsTruncated=True, NextKeyMarker="a", NextUploadIdMarker="u")
    client = ScriptedClient(list_multipart_uploads=[first, page("b")])
    assert [one.key async for page in inventory_on(client).uploads() for one in page] == ["a", "b"]
    assert client.calls[1][1]["KeyMarker"] == "a"
    assert client.calls[1][1]["UploadIdMarker"] == "u"


async def test_a_segment_is_read_to_its_end_though_pages_in_between_are_empty() -> None:
    pages = [
        {"Items": [item("a")], "LastEvaluatedKey": {"pk": {"S": "a"}}},
        {"Items": [], "LastEvaluatedKey": {"pk": {"S": "b"}}},
        {"Items": [item("c")]},
    ]
    client = ScriptedClient(scan=pages)
    found = [one async for page in inventory_on(client).unclosed(2, 4) for one in page]
    assert [one.message_id for one in found] == ["a", "c"]
    assert all(isinstance(one, Unreadable) for one in found)
    assert {(request["Segment"], request["TotalSegments"]) for _, request in client.calls} == {(2, 4)}


async def test_a_story_is_read_consistently_and_to_its_end() -> None:
    pages = [{"Items": [item("a")], "LastEvaluatedKey": {"pk": {"S": "a"}}}, {"Items": [item("a")]}]
    client = ScriptedClient(query=pages)
    assert len(await inventory_on(client).story("a")) == 2
    assert all(request["ConsistentRead"] for _, request in client.calls)


async def test_keys_that_were_left_out_are_asked_for_again_and_not_for_ever() -> None:
    left = {"table": {"Keys": [{"pk": {"S": "b"}, "sk": {"S": "message"}}]}}
    first: Any = {"Responses": {"table": [{"pk": {"S": "a"}}]}, "UnprocessedKeys": left}
    second = {"Responses": {"table": [{"pk": {"S": "b"}, "expires_at": {"N": "1"}}]}}
    client = ScriptedClient(batch_get_item=[first, second])
    assert await inventory_on(client).closed(["a", "b"]) == {"a": False, "b": True}
    assert client.calls[1][1]["RequestItems"] == left

    with pytest.raises(LedgerTrouble, match="left out"):
        await inventory_on(ScriptedClient(batch_get_item=[first] * 4)).closed(["a", "b"])


async def test_a_hundred_messages_are_one_request() -> None:
    answer: dict[str, Any] = {"Responses": {}}
    client = ScriptedClient(batch_get_item=[answer] * 3)
    assert await inventory_on(client).closed([f"{number}" for number in range(250)]) == {}
    assert [len(request["RequestItems"]["table"]["Keys"]) for _, request in client.calls] == [100, 100, 50]
