"""What next hops ask for in prose, and what only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.retry_hint import MAX_LOOKED_AT, wait_asked_for


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Greylisted for 300 seconds (see http://postgrey.example/help/foo.html)", 300),
        ("<bob@b.test>: Recipient address rejected: Greylisted for 58 seconds", 58),
        ("Sender address rejected: Greylisted for 58 sec.", 58),
        ("Greylisted for 5 minutes. Try again later.", 300),
        ("Greylisting in action, please come back in 00:05:00", 300),
        ("Greylisting in Action, Please Come Back in 00:02:00 [minutes]", 120),
        ("Greylisted, please try again in 300 seconds", 300),
        ("Greylisted, please try again in 5 minutes", 300),
        ("Greylisting in effect, please retry in 300 seconds", 300),
        ("Recipient address rejected: Greylisted, try again in 300 seconds", 300),
        ("greylisted, retry in 2 hours", 7200),
        ("try again in 15 seconds.", 15),
        ("Graylisted: try again after 90s", 90),
        ("retry=00:05:00", 300),
        ("Retry-After: 300", 300),
        ("retry_after=45;", 45),
        ("too many connections, please retry after 300 seconds", 300),
        ("Please wait 10 more minutes", 600),
        ("Temporarily blocked for 1 hour", 3600),
        ("Your address is throttled, wait at least another 30 min", 1800),
        ("try again\nin about\n4m30s", 270),
        ("try again in 1 hour and 5 minutes", 3900),
        ("Try again in an hour", 3600),
        ("retry in 1.5 minutes", 90),
        ("retry in 0.2 s", 1),
        ("try again in 3 days", 259_200),
        ("Greylisted, please try again in 900 seconds", 900),
        ("<bob@b.test>: Recipient address rejected: Greylisted for 60 seconds, see policy[3]", 60),
        ("Greylisted for 300 seconds please try again", 300),
        ("4.7.1 Greylisting in action, please come back in 00:04:59", 299),
        ("4.3.0 HTTP 429; try again in 120 seconds; Too Many Requests", 120),
    ],
)
def test_a_wait_is_read_in_the_forms_of_the_field(text: str, seconds: int) -> None:
    assert wait_asked_for(text) == seconds
    assert wait_asked_for(text.upper()) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "try again later",
        "Greylisted, please try again in a few minutes",
        "Greylisted, please try again in a few moments.",
        "Temporary System Problem.  Try again later (10). cx5-20020a17090afd8 - gsmtp",
        "Greylisted, see http://postgrey.example/help/b.test.html",
        "Greylisting in progress, please try again later",
        "4.7.1 Greylisting in action, please come back later",
        "4.3.2 Service currently unavailable",
        "4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
        "4.7.28 an unusual rate of mail from your IP address 192.0.2.1; it was temporarily rate limited",
        "Please retry later. Your host 192.0.2.1 has sent 1000 messages in the last 60 minutes",
        'Ratelimit "to_user" exceeded',
        "timed out after 300 seconds",
        "more than 100 messages in 60 minutes",
        "Sender ip address rejected: You sent to many mails from different domains in the last 10 minutes",
        "[TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints - 4.16.55.1",
        "deferred 4.16.55.1; try again",
        "try again in 5 steps",
        "please retry 192.0.2.1",
        "retry after",
        "retry in 0 seconds",
        "Retry-After: 0",
        "retry=12:05",
        "country 5 minutes, entry 3 seconds",
        "try again in 1234567 seconds",
        "try again in ٣ seconds",
    ],
)
def test_what_is_no_wait_is_not_read_as_one(text: str) -> None:
    assert wait_asked_for(text) is None


WORDS = st.sampled_from(
    ["retry", "try again", "in", "for", "wait", "greylisted", "and", "5", "1m", "00:05:00", "1 hour", ":"]
)


@given(st.text(max_size=3000) | st.lists(WORDS, max_size=600).map(" ".join) | st.lists(WORDS).map("".join))
def test_any_text_gives_a_wait_that_is_finite_or_none(text: str) -> None:
    wait = wait_asked_for(text)
    assert wait is None or 0 < wait <= 4 * 999_999 * 86_400 + 3600


@pytest.mark.parametrize(
    "piece",
    ["retry ", "try again ", "wait in for ", "1m", "1 m ", "retry after ", "(((", "again again\n", "00:"],
)
def test_no_text_takes_long(piece: str) -> None:
    # Were any of these exponential in its length, this would not come to its end.
    assert wait_asked_for(piece * 20_000) is None


def test_what_lies_far_behind_is_not_looked_at() -> None:
    assert wait_asked_for("x" * MAX_LOOKED_AT + " retry in 5 s") is None
