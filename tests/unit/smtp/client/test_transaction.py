"""Dialogues of the client core: what it sends together, and what each recipient hears.

Batches of replies are written with `;` between replies; each answers one flight.
"""

from __future__ import annotations

import re

import pytest

from empath.domain.reason import Reason
from empath.smtp.client import BLOCK, Breach, Forward, MailTransaction, Offer, Want
from empath.smtp.client.transaction import CHUNK
from empath.smtp.client.verdicts import timed_out
from tests.unit.smtp.client.talking import ANN, BOB, CONTENT, OFFERS, Talk, mail, talk

MAIL, TO_ANN, TO_BOB = (
    "MAIL FROM:<sender@example.test>",
    "RCPT TO:<ann@example.test>",
    "RCPT TO:<bob@example.test>",
)
HELLO = ["Subject: hello", "", ".Hello"]
STUFFED = ["Subject: hello", "", "..Hello", "."]
SENT = ["sent 250", "sent 250"]
LARGE = (b"x" * 62 + b"\r\n") * 2500  # two blocks and a part
OK = "250 ok"


def test_everything_is_one_flight_with_pipelining_and_chunking() -> None:
    done = talk("both").hear("250 ok; 250 ann; 250 bob; 250 taken")
    assert done.lines == [[MAIL, TO_ANN, TO_BOB, f"BDAT {len(CONTENT)} LAST", *HELLO]]
    assert done.shorts == SENT


def test_two_flights_with_pipelining_alone() -> None:
    done = talk("pipelining").hear("250 ok; 250 ann; 250 bob; 354 go", "250 taken")
    assert done.lines == [[MAIL, TO_ANN, TO_BOB, "DATA"], STUFFED]
    assert done.shorts == SENT


def test_one_command_at_a_time_without_pipelining() -> None:
    done = talk("nothing").hear(OK, OK, OK, "354 go", "250 taken")
    assert done.lines == [[MAIL], [TO_ANN], [TO_BOB], ["DATA"], STUFFED]
    assert done.shorts == SENT
    done = talk("chunking").hear(OK, OK, OK, "250 taken")
    assert done.lines == [[MAIL], [TO_ANN], [TO_BOB], [f"BDAT {len(CONTENT)} LAST", *HELLO]]


def test_larger_content_waits_for_the_envelope_and_then_goes_in_chunks() -> None:
    done = talk("both", LARGE).hear("250 ok; 250 ann; 250 bob", "250 1; 250 2; 250 3")
    envelope, chunks = done.flights
    assert envelope.endswith(b"bob@example.test>\r\n")
    rest = len(LARGE) - 2 * BLOCK
    assert chunks == b"".join(
        [
            b"BDAT 65536\r\n" + LARGE[:BLOCK],
            b"BDAT 65536\r\n" + LARGE[BLOCK : 2 * BLOCK],
            b"BDAT %d LAST\r\n" % rest + LARGE[2 * BLOCK :],
        ]
    )
    assert done.shorts == SENT


def test_larger_content_goes_by_data_where_chunks_would_each_be_waited_for() -> None:
    done = talk("chunking", LARGE).hear(OK, OK, OK, "354 go", OK)
    assert done.flights[-1] == LARGE + b".\r\n"


@pytest.mark.parametrize("offer", ["both", "chunking"])
def test_content_that_is_larger_than_it_was_said_to_be_is_still_sent_whole(offer: str) -> None:
    core = MailTransaction(mail(size=10), OFFERS[offer], chunk=BLOCK)
    # One chunk at a time is waited for without PIPELINING.
    replies = ["250 ok; 250 ann; 250 bob", "250 1; 250 2"] if offer == "both" else [OK] * 6
    done = Talk(core, LARGE).hear(*replies)
    chunks = re.findall(rb"BDAT (\d+)( LAST)?\r\n", b"".join(done.flights))
    assert sum(int(size) for size, _ in chunks) == len(LARGE)
    assert [last for _, last in chunks if last] == [b" LAST"]
    assert done.shorts == SENT


def test_a_megabyte_goes_in_one_chunk_unless_told_otherwise() -> None:
    content = b"x" * (CHUNK - 2) + b"\r\n"
    for size, chunks in ((len(content) - 1, 1), (len(content), 2)):
        done = Talk(MailTransaction(mail(size=size), OFFERS["both"]), content[:size])
        done.hear("250 ok; 250 ann; 250 bob", "; ".join([OK] * chunks))
        assert len(re.findall(rb"BDAT \d+", done.flights[1])) == chunks


def test_content_of_a_multiple_of_a_block_ends_in_an_empty_chunk() -> None:
    done = talk("both", b"x" * BLOCK).hear("250 ok; 250 ann; 250 bob", "250 1; 250 2")
    assert done.flights[1].endswith(b"xBDAT 0 LAST\r\n")


@pytest.mark.parametrize("offer", OFFERS)
def test_a_refused_recipient_has_its_own_reply_and_the_others_the_message(offer: str) -> None:
    envelope = ["250 ok", "250 ann", "550 5.1.1 bob"]
    replies = {
        "both": ["; ".join([*envelope, "250 taken"])],
        "pipelining": ["; ".join([*envelope, "354 go"]), OK],
        "chunking": [*envelope, OK],
        "nothing": [*envelope, "354 go", OK],
    }[offer]
    done = talk(offer).hear(*replies)
    assert done.shorts == ["sent 250", "failed 550 next_hop_reply"]
    assert not done.core.needs_reset
    assert done.core.breach is None


class TestEverybodyRefused:
    def test_data_that_is_accepted_all_the_same_gets_a_lone_dot(self) -> None:
        done = talk("pipelining").hear("250 ok; 550 ann; 450 bob; 354 go", "554 nobody")
        assert done.lines[1:] == [["."]]
        assert done.shorts == ["failed 550 next_hop_reply", "deferred 450 next_hop_reply"]
        assert not done.core.is_ambiguous
        assert not done.core.is_broken

    @pytest.mark.parametrize("reply", ["250 ok", "554 nobody", "451 what", "399 what"])
    def test_and_the_reply_to_that_dot_means_nothing(self, reply: str) -> None:
        done = talk("pipelining").hear("250 ok; 550 ann; 550 bob; 354 go", reply)
        assert done.shorts == ["failed 550 next_hop_reply"] * 2
        assert not done.core.is_ambiguous

    def test_a_connection_lost_at_that_dot_changes_nothing(self) -> None:
        done = talk("pipelining").hear("250 ok; 550 ann; 550 bob; 354 go")
        assert done.shorts == ["failed 550 next_hop_reply"] * 2
        assert not done.core.is_ambiguous
        assert done.core.is_broken

    def test_data_that_is_refused_leaves_a_session_that_needs_rset(self) -> None:
        done = talk("pipelining").hear("250 ok; 550 ann; 550 bob; 503 nobody")
        assert done.core.needs_reset
        assert done.core.breach is None

    def test_a_chunk_goes_with_the_envelope_and_its_refusal_is_expected(self) -> None:
        done = talk("both").hear("250 ok; 550 ann; 550 bob; 503 nobody")
        assert done.shorts == ["failed 550 next_hop_reply"] * 2
        assert done.core.needs_reset
        assert done.core.breach is None

    def test_no_content_goes_where_the_envelope_is_waited_for(self) -> None:
        assert talk("both", LARGE).hear("250 ok; 550 ann; 550 bob").lines == [[MAIL, TO_ANN, TO_BOB]]
        assert talk("nothing").hear(OK, "550 ann", "550 bob").lines == [[MAIL], [TO_ANN], [TO_BOB]]


class TestMailRefused:
    @pytest.mark.parametrize("replies", ["550 no; 503 a; 503 b; 503 c", "550 no; 550 a; 550 b; 550 c"])
    @pytest.mark.parametrize("offer", ["both", "pipelining"])
    def test_its_reply_is_everybodys_and_the_rest_are_its_consequence(self, offer: str, replies: str) -> None:
        done = talk(offer).hear(replies)
        assert done.shorts == ["failed 550 next_hop_reply"] * 2
        assert done.core.breach is None
        assert not done.core.needs_reset

    def test_no_recipient_is_named_one_by_one(self) -> None:
        assert talk("nothing").hear("450 later").lines == [[MAIL]]

    def test_354_after_a_recipient_was_accepted_all_the_same_ends_the_session_before_any_dot(self) -> None:
        done = talk("pipelining").hear("550 no; 250 a; 250 b; 354 go")
        assert done.shorts == ["failed 550 next_hop_reply"] * 2
        assert done.core.is_broken
        assert len(done.flights) == 1

    def test_content_accepted_all_the_same_is_ambiguous(self) -> None:
        done = talk("both").hear("450 later; 250 a; 250 b; 250 taken")
        assert done.shorts == ["deferred 451 protocol_error"] * 2
        assert done.core.is_ambiguous
        assert done.core.is_broken


class TestLosses:
    def test_a_lost_flight_that_held_the_content_is_ambiguous(self) -> None:
        for replies in ([], ["250 ok"], ["250 ok; 250 a"], ["250 ok; 250 a; 250 b"]):
            done = talk("both").hear(*replies)
            assert done.core.is_ambiguous
            assert done.shorts == ["deferred 451 connection_lost"] * 2

    def test_but_not_for_who_was_refused_before(self) -> None:
        done = talk("both").hear("250 ok; 550 a")
        assert done.shorts == ["failed 550 next_hop_reply", "deferred 451 connection_lost"]
        assert done.core.is_ambiguous

    @pytest.mark.parametrize("replies", ["550 no", "250 ok; 550 a; 550 b", "450 later; 503 a"])
    def test_and_not_when_nobody_can_be_accepted_any_more(self, replies: str) -> None:
        done = talk("both").hear(replies)
        assert not done.core.is_ambiguous
        assert done.core.is_broken

    @pytest.mark.parametrize("replies", [["250 ok"], ["250 ok; 250 a; 250 b; 354 go"]])
    def test_before_the_final_dot_nothing_is_ambiguous(self, replies: list[str]) -> None:
        done = talk("pipelining")
        done.send()
        done.core.receive(replies[0].replace("; ", "\r\n").encode() + b"\r\n")
        done.core.fail(timed_out("x"))
        assert not done.core.is_ambiguous
        assert done.shorts == ["deferred 451 timeout"] * 2

    def test_after_it_a_missing_reply_is(self) -> None:
        assert talk("pipelining").hear("250 ok; 250 a; 250 b; 354 go").core.is_ambiguous

    def test_chunks_before_the_last_are_not(self) -> None:
        done = talk("both", LARGE)
        done.send()
        done.core.receive(b"250 ok\r\n250 a\r\n250 b\r\n")
        done.core.give_content(LARGE[:BLOCK], last=False)
        done.core.take_output()
        done.core.fail(timed_out("x"))
        assert not done.core.is_ambiguous


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("offer", ["both", "pipelining"])
def test_a_421_in_place_of_any_reply_defers_who_is_open_and_is_never_ambiguous(
    offer: str, position: int
) -> None:
    replies = ["250 ok", "250 a", "250 b", "250 taken" if offer == "both" else "354 go"]
    done = talk(offer).hear("; ".join([*replies[:position], "421 4.3.2 bye"]))
    assert done.shorts == ["deferred 421 next_hop_reply"] * 2
    assert not done.core.is_ambiguous
    assert done.core.is_broken


class TestStrayReplies:
    def test_one_too_many_makes_a_flight_doubtful(self) -> None:
        done = talk("pipelining").hear("250 ok; 250 a; 250 stray; 550 b; 354 go")
        assert done.shorts == ["deferred 451 protocol_error"] * 2
        assert done.core.is_broken
        assert not done.core.is_ambiguous

    def test_with_content_in_the_flight_it_is_ambiguous(self) -> None:
        done = talk("both").hear("250 ok; 250 a; 250 stray; 550 b; 250 taken")
        assert done.shorts == ["deferred 451 protocol_error"] * 2
        assert done.core.is_ambiguous

    def test_behind_an_accepted_message_it_changes_nothing_but_the_session(self) -> None:
        done = talk("both").hear("250 ok; 250 a; 250 b; 250 taken; 500 what")
        assert done.shorts == SENT
        assert done.core.is_broken
        assert not done.core.is_ambiguous

    def test_a_421_behind_any_end_changes_nothing_but_the_session(self) -> None:
        done = talk("both").hear("250 ok; 550 a; 550 b; 554 no; 421 bye")
        assert done.shorts == ["failed 550 next_hop_reply"] * 2
        assert done.core.is_broken

    def test_before_a_command_was_sent_it_does_not_answer_it(self) -> None:
        done = talk("nothing").hear(OK, "250 a; 250 stray")
        assert done.shorts == ["deferred 451 protocol_error"] * 2

    def test_content_read_as_commands_is_blamed_on_chunking(self) -> None:
        done = talk("both").hear("250 ok; 550 a; 550 b; 503 nobody; 500 Subject; 500 what; 500 .Hello")
        assert done.core.breach is not None
        assert done.core.breach.keywords == {"CHUNKING"}
        assert done.core.breach.said
        assert not done.core.is_ambiguous
        assert done.core.is_broken


class TestContentRefused:
    def test_a_refused_chunk_ends_the_sending_and_the_rest_is_waited_for(self) -> None:
        done = talk("both", LARGE)
        done.send()
        done.core.receive(b"250 ok\r\n250 a\r\n250 b\r\n")
        for block in (LARGE[:BLOCK], LARGE[BLOCK : 2 * BLOCK]):
            done.core.give_content(block, last=False)
            done.core.take_output()
        done.core.receive(b"552 5.3.4 too big\r\n")
        wanted = [done.core.wants]
        done.core.receive(b"503 no\r\n")
        assert [*wanted, done.core.wants] == [Want.REPLY, Want.NOTHING]
        assert done.shorts == ["failed 552 next_hop_reply"] * 2
        assert done.core.needs_reset
        assert not done.core.is_broken

    @pytest.mark.parametrize(
        ("reply", "outcome"),
        [
            ("554 5.6.0 no", "failed 554 next_hop_reply"),
            ("451 later", "deferred 451 next_hop_reply"),
            ("250 already", "deferred 451 protocol_error"),
        ],
    )
    def test_an_answer_before_the_end_is_a_refusal_and_ends_the_session(
        self, reply: str, outcome: str
    ) -> None:
        done = talk("pipelining", LARGE).hear(f"250 ok; 250 a; 250 b; 354 go; {reply}")
        assert done.shorts == [outcome] * 2
        assert done.core.is_broken
        assert not done.core.is_ambiguous

    def test_after_the_dot_the_session_is_free_again_and_after_a_chunk_it_needs_rset(self) -> None:
        assert not talk("pipelining").hear("250 ok; 250 a; 250 b; 354 go", "554 no").core.needs_reset
        assert talk("both").hear("250 ok; 250 a; 250 b; 554 no").core.needs_reset


class TestReset:
    def test_rset_goes_in_the_flight_of_the_next_transaction(self) -> None:
        done = talk("both", reset=True).hear("250 reset; 250 ok; 250 a; 250 b; 250 taken")
        assert done.lines[0][:2] == ["RSET", MAIL]
        assert done.shorts == SENT
        assert not done.core.needs_reset

    def test_or_before_it(self) -> None:
        done = talk("nothing", reset=True).hear(OK, OK, OK, OK, "354 go", OK)
        assert done.lines[:2] == [["RSET"], [MAIL]]

    def test_a_session_that_cannot_be_reset_is_broken(self) -> None:
        done = talk("nothing", reset=True).hear("500 what")
        assert done.shorts == ["deferred 451 protocol_error"] * 2
        assert done.core.is_broken


class TestBreaches:
    @pytest.mark.parametrize(
        ("offer", "replies", "keywords", "said"),
        [
            ("pipelining", "500 what", {"PIPELINING"}, True),
            ("pipelining", "250 ok; 503 no; 503 no; 503 no", {"PIPELINING"}, True),
            ("pipelining", "250 ok; 250 a; 250 b; 503 no", {"PIPELINING"}, True),
            ("pipelining", "", {"PIPELINING"}, False),
            ("pipelining", "250 ok", {"PIPELINING"}, False),
            ("both", "", {"PIPELINING", "CHUNKING"}, False),
            ("both", "250 ok; 250 a; 250 b", {"CHUNKING"}, False),
            ("both", "250 ok; 250 a; 250 b; 502 no", {"CHUNKING"}, True),
            ("both", "250 ok; 250 a; 250 b; 504 no", {"CHUNKING"}, True),
        ],
    )
    def test_what_broke_is_left_off(self, offer: str, replies: str, keywords: set[str], said: bool) -> None:
        batches = [replies] if replies else []
        breach = talk(offer).hear(*batches).core.breach
        assert breach is not None
        assert breach == Breach(frozenset(keywords), said)

    @pytest.mark.parametrize(
        ("offer", "batches"),
        [
            ("nothing", ["500 what"]),
            ("nothing", []),
            ("pipelining", ["250 ok; 550 a; 550 b; 554 no"]),
            ("pipelining", ["550 no; 503 a; 503 b; 503 c"]),
            ("pipelining", ["250 ok; 250 a; 250 b; 354 go"]),
            ("pipelining", ["250 ok; 250 a; 250 b; 354 go", "503 no"]),
            ("both", ["250 ok; 250 a; 250 b; 554 spam"]),
            ("both", ["250 ok; 250 a; 250 b; 451 later"]),
            ("both", ["421 bye"]),
        ],
    )
    def test_an_ordinary_refusal_is_no_breach(self, offer: str, batches: list[str]) -> None:
        assert talk(offer).hear(*batches).core.breach is None

    @pytest.mark.parametrize("replies", ["555 RET", "250 ok; 501 NOTIFY; 250 b; 354 go"])
    def test_report_parameters_that_are_offered_and_refused(self, replies: str) -> None:
        offer = Offer(frozenset({"PIPELINING", "DSN"}))
        batches = [replies, OK] if "354" in replies else [replies + "; 503 a; 503 b; 503 c"]
        breach = talk(offer, envid="x").hear(*batches).core.breach
        assert breach is not None
        assert breach.keywords == {"DSN"}


class TestRefusedHere:
    def test_a_message_larger_than_the_next_hop_takes_is_not_offered(self) -> None:
        core = MailTransaction(mail(size=1001), Offer(frozenset({"SIZE"}), max_size=1000))
        assert core.wants is Want.NOTHING
        assert core.take_output() == b""
        assert {str(outcome.reply.status) for outcome in core.outcomes.values()} == {"5.3.4"}
        assert {outcome.reason for outcome in core.outcomes.values()} == {Reason.TOO_BIG}
        assert MailTransaction(mail(size=1000), Offer(max_size=1000)).wants is not Want.NOTHING

    def test_only_recipients_that_need_smtputf8_fail_without_it(self) -> None:
        core = MailTransaction(mail([ANN, Forward("jörg@example.test", None)]), OFFERS["both"])
        Talk(core).hear("250 ok; 250 a; 250 taken")
        assert str(core.outcomes["jörg@example.test"].reply.status) == "5.6.7"
        assert core.outcomes[ANN].reply.code == 250

    def test_a_message_that_needs_smtputf8_is_not_offered_without_it(self) -> None:
        core = MailTransaction(mail(smtputf8=True), OFFERS["both"])
        assert core.wants is Want.NOTHING
        assert {str(outcome.reply.status) for outcome in core.outcomes.values()} == {"5.6.7"}

    def test_an_address_that_cannot_be_said_is_not_said(self) -> None:
        bad = "x@y.test>\r\nRCPT TO:<z@y.test"
        core = MailTransaction(mail([bad, BOB]), OFFERS["both"])
        done = Talk(core).hear("250 ok; 250 b; 250 taken")
        assert str(core.outcomes[bad].reply.status) == "5.1.3"
        assert done.lines[0][:3] == [MAIL, TO_BOB, f"BDAT {len(CONTENT)} LAST"]


def test_a_bare_552_to_a_later_recipient_means_too_many_for_now() -> None:
    done = talk("both").hear("250 ok; 250 a; 552 too many; 250 taken")
    assert done.shorts == ["sent 250", "deferred 552 next_hop_reply"]
