"""Which messages machines made, by their header section."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.dsn.automatic import Origin, origin_of


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        (b"", Origin.PERSON),
        (b"Subject: hello\r\n", Origin.PERSON),
        (b"Auto-Submitted: no\r\n", Origin.PERSON),
        (b"Auto-Submitted:\r\n", Origin.PERSON),
        (b"auto-submitted: Auto-Generated\r\n", Origin.GENERATED),
        (b"Auto-Submitted: auto-notified; owner-email=a@b.test\r\n", Origin.GENERATED),
        (b"Auto-Submitted: auto-replied (vacation)\r\n", Origin.REPLIED),
        (b"Auto-Submitted:\r\n auto-replied\r\n", Origin.REPLIED),
        (b"Auto-Submitted: no\r\nAuto-Submitted: auto-replied\r\n", Origin.REPLIED),
        (b"Content-Type: multipart/report; report-type=delivery-status\r\n", Origin.REPLIED),
        (b"Content-Type: multipart/mixed\r\n", Origin.PERSON),
    ],
)
def test_the_field_tells(fields: bytes, origin: Origin) -> None:
    assert origin_of(b"From: ann@a.test\r\n" + fields + b"To: bob@b.test\r\n") is origin


@given(st.binary(max_size=300))
def test_any_octets_have_an_origin(octets: bytes) -> None:
    assert origin_of(octets) in Origin
    assert origin_of(b"Auto-Submitted: " + octets) in Origin
