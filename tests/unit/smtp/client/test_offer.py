"""What a next hop offers, and what its limits make of the recipients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.smtp.client import Offer
from empath.smtp.client.offer import batches, by_domains, domain_of


def test_keywords_are_known_in_any_case() -> None:
    offer = Offer.of({"pipelining": "", "Chunking": "", "DSN": ""})
    assert "PIPELINING" in offer
    assert "CHUNKING" in offer
    assert "SIZE" not in offer
    assert offer.without({"CHUNKING"}).keywords == {"PIPELINING", "DSN"}


@pytest.mark.parametrize(
    ("value", "max_size"),
    [("1000", 1000), ("0", None), ("", None), ("-5", None), ("many", None), ("9" * 21, None), ("1 2", None)],
)
def test_a_size_that_cannot_be_read_is_no_bound(value: str, max_size: int | None) -> None:
    assert Offer.of({"size": value}).max_size == max_size


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("RCPTMAX=100 MAILMAX=5 RCPTDOMAINMAX=1", (100, 5, 1)),
        ("rcptmax=7", (7, None, None)),
        ("RCPTMAX=0 MAILMAX=01 RCPTDOMAINMAX=1000000", (None, None, None)),
        ("RCPTMAX=-1 MAILMAX= RCPTDOMAINMAX", (None, None, None)),
        ("OTHER=5 RCPTMAX=100x MAILMAX=5", (None, 5, None)),
        ("", (None, None, None)),
    ],
)
def test_limits_are_read_and_what_is_wrong_is_ignored(value: str, expected: tuple[int | None, ...]) -> None:
    offer = Offer.of({"limits": value})
    assert (offer.max_recipients, offer.max_messages, offer.max_domains) == expected


@given(
    st.lists(st.sampled_from(["a@x.test", "b@X.test", "c@y.test", "d@z.test", "e"]), unique=True),
    st.integers(1, 4),
)
def test_every_recipient_is_in_one_batch_and_no_batch_is_over_its_limit(names: list[str], most: int) -> None:
    groups = by_domains(names, most)
    assert sorted(name for group in groups for name in group) == sorted(names)
    assert all(len({domain_of(name) for name in group}) <= most for group in groups)
    assert [name for batch in batches(names, most) for name in batch] == names
    assert all(len(batch) <= most for batch in batches(names, most))


def test_without_limits_everybody_goes_together() -> None:
    assert by_domains(["a@x.test", "b@y.test"], None) == [["a@x.test", "b@y.test"]]
    assert batches(["a@x.test", "b@y.test"], None) == [["a@x.test", "b@y.test"]]
