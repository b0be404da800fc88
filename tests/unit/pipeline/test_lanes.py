"""Which queue a job waits on; and groups: what SQS takes, and another one for every tenant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.reason import Reason
from empath.pipeline.lanes import (
    NOBODY,
    group_of,
    group_of_accepted,
    is_left_for_slow_sites,
    queue_of_put_off,
)
from empath.ports.queue import MAX_GROUP, QueueName

# Alphanumeric characters and punctuation of ASCII: API_SendMessage, MessageGroupId.
TAKEN = re.compile(r"[!-~]{1,128}")


@pytest.mark.parametrize("tenant", ["shop", "a.b-c_d", "x" * 64])
def test_a_plain_name_is_its_own_group(tenant: str) -> None:
    assert group_of(tenant) == tenant


@pytest.mark.parametrize("tenant", ["two words", "Käse", "a/b", "-", "", "x~y", "x" * 500, "\ud800"])
def test_any_other_name_becomes_one_that_sqs_takes(tenant: str) -> None:
    group = group_of(tenant)
    assert TAKEN.fullmatch(group)
    assert re.search("~[0-9a-f]{16}$", group)
    assert group != NOBODY


@given(st.text(), st.text())
def test_two_tenants_never_share_a_group(one: str, other: str) -> None:
    assert (group_of(one) == group_of(other)) == (one == other)
    assert group_of(one) != group_of(None)


@given(st.none() | st.text(max_size=300), st.sampled_from(["high", "normal", "bulk"]))
def test_a_group_on_accepted_says_the_priority(tenant: str | None, priority: str) -> None:
    group = group_of_accepted(tenant, priority)  # type: ignore[arg-type]
    assert TAKEN.fullmatch(group)
    assert len(group) <= MAX_GROUP
    assert group.rpartition("/") == (group_of(tenant), "/", priority)


def test_mail_for_a_dead_site_waits_apart_from_first_attempts() -> None:
    for queue in QueueName:
        kept = QueueName.RETRY if queue is QueueName.DELIVERY else queue
        assert queue_of_put_off(queue, Reason.CIRCUIT_OPEN) is kept
        assert queue_of_put_off(queue, Reason.SLOT_RESERVED) is queue
        assert queue_of_put_off(queue, Reason.CONNECTIONS_IN_USE) is queue


def test_every_queue_but_that_of_high_mail_is_left_for_a_slow_site() -> None:
    stay = {queue for queue in QueueName if queue.is_for_deliveries and not is_left_for_slow_sites(queue)}
    assert stay == {QueueName.DELIVERY_HIGH, QueueName.DELIVERY_SLOW}
