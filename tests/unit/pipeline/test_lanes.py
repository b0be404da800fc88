"""Groups have the characters and the length that SQS takes, and tell tenants apart."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.pipeline.lanes import NOBODY, group_of, group_of_accepted
from empath.ports.queue import MAX_GROUP

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
