"""Passwords are checked off the loop, a few at a time; right ones are remembered, wrong ones tell nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from empath.domain.errors import ControlTrouble
from empath.domain.password import DEFAULT_COST, Cost, hash_password, verify_password
from empath.domain.user import User
from empath.ingress import authentication
from empath.ingress.authentication import REMEMBERED_FOR, Authenticator, PasswordCheck, TooBusy, authenticate
from empath.smtp import events, replies
from empath.testing.clock import START
from empath.testing.faults import Faults
from empath.testing.memory_users import MemoryUsers

CHEAP = Cost(ln=1, r=1, p=1)


def a_hash(password: str, salt: bytes = b"saltsalt") -> str:
    return hash_password(password, salt, CHEAP)


ANN = User(name="ann", password_hash=a_hash("secret"), domains=("*",), created_at=START)
REVOKED = ANN.model_copy(update={"name": "gone", "revoked_at": START})
BY_CERTIFICATE = User(name="cert", created_at=START)


class Bench:
    """A check whose time and whose computing a test sees."""

    def __init__(self) -> None:
        self.users = MemoryUsers([ANN, REVOKED, BY_CERTIFICATE])
        self.faults = Faults()
        self.now = 0.0
        self.computed: list[str] = []
        """The hash of each computation."""
        self.gate = threading.Event()
        self.gate.set()
        self.at_a_time: set[int] = set()
        self._running = 0
        self._lock = threading.Lock()
        self.check = self.new()

    def new(self, **bounds: int) -> PasswordCheck:
        users = self.faults.wrap("users", self.users, ControlTrouble)
        return PasswordCheck(users, monotonic=lambda: self.now, verify=self._verify, **bounds)

    def _verify(self, password: str, kept: str) -> bool:
        with self._lock:
            self._running += 1
            self.at_a_time.add(self._running)
            self.computed.append(kept)
        assert self.gate.wait(10)
        with self._lock:
            self._running -= 1
        # What costs much is not computed here: nobody's hash has no password.
        return ",p=1$" in kept and verify_password(password, kept)

    def change(self, **fields: object) -> None:
        self.users.items["ann"] = self.users.items["ann"].model_copy(update=fields)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with asyncio.timeout(20):
        yield bench
        bench.gate.set()
        await bench.check.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("name", ["ann", "ANN", "\uff41nn"])
async def test_the_right_password_gives_the_user_however_the_name_is_written(bench: Bench, name: str) -> None:
    assert await bench.check(name, "secret") == ANN


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "Secret"),
        ("ann", ""),
        ("bob", "secret"),
        ("a b", "secret"),
        ("a\x00", "secret"),
        ("x" * 10_000, "secret"),
        ("gone", "secret"),
        ("cert", "secret"),
        ("cert", ""),
    ],
    ids=lambda text: text[:20] or "nothing",
)
async def test_whoever_is_not_let_in_costs_one_computation_a_minute(
    bench: Bench, name: str, password: str
) -> None:
    for _ in range(3):
        assert await bench.check(name, password) is None
        assert len(bench.computed) == 1
    bench.now = REMEMBERED_FOR
    assert await bench.check(name, password) is None
    assert len(bench.computed) == 2


async def test_what_is_computed_for_nobody_costs_what_a_password_costs(bench: Bench) -> None:
    await bench.check("bob", "x")
    [kept] = bench.computed
    assert kept.startswith(f"$scrypt$ln={DEFAULT_COST.ln},r={DEFAULT_COST.r},p={DEFAULT_COST.p}$")
    assert not verify_password("x", kept)


async def test_a_right_password_is_computed_once_a_minute(bench: Bench) -> None:
    for _ in range(10):
        assert await bench.check("ann", "secret") == ANN
    bench.now = REMEMBERED_FOR - 0.1
    assert await bench.check("ann", "secret") == ANN
    assert len(bench.computed) == 1
    bench.now = REMEMBERED_FOR
    assert await bench.check("ann", "secret") == ANN
    assert len(bench.computed) == 2


async def test_each_wrong_password_is_computed_also_after_a_right_one(bench: Bench) -> None:
    await bench.check("ann", "secret")
    for number in range(3):
        assert await bench.check("ann", f"wrong {number}") is None
    assert len(bench.computed) == 4


async def test_a_wrong_password_that_became_the_right_one_is_right(bench: Bench) -> None:
    assert await bench.check("ann", "new") is None
    bench.change(password_hash=a_hash("new"))
    assert await bench.check("ann", "new") is not None


async def test_a_name_that_nobody_had_is_let_in_once_somebody_has_it(bench: Bench) -> None:
    assert await bench.check("bob", "secret") is None
    bench.users.items["bob"] = ANN.model_copy(update={"name": "bob"})
    assert await bench.check("bob", "secret") is not None


async def test_who_is_revoked_is_out_at_once(bench: Bench) -> None:
    assert await bench.check("ann", "secret") is not None
    bench.change(revoked_at=START)
    assert await bench.check("ann", "secret") is None
    bench.change(revoked_at=None)
    assert await bench.check("ann", "secret") is not None


@pytest.mark.parametrize("kept", [a_hash("new"), None])
async def test_who_has_another_password_by_now_is_out_with_the_old_one(
    bench: Bench, kept: str | None
) -> None:
    assert await bench.check("ann", "secret") is not None
    bench.change(password_hash=kept)
    assert await bench.check("ann", "secret") is None
    assert (await bench.check("ann", "new") is not None) is (kept is not None)


async def test_the_user_given_is_the_one_of_now(bench: Bench) -> None:
    await bench.check("ann", "secret")
    bench.change(domains=("a.test",))
    user = await bench.check("ann", "secret")
    assert user is not None
    assert user.domains == ("a.test",)


async def test_two_users_with_one_hash_are_two_questions(bench: Bench) -> None:
    await bench.check("ann", "secret")
    assert await bench.check("gone", "secret") is None
    assert len(bench.computed) == 2


async def test_what_is_remembered_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MAX_REMEMBERED", 3)
    for number in range(4):
        bench.users.items[f"u{number}"] = ANN.model_copy(update={"name": f"u{number}"})
        await bench.check(f"u{number}", "secret")
    for number in (3, 2, 1):
        await bench.check(f"u{number}", "secret")
    assert len(bench.computed) == 4
    for number in range(10):
        await bench.check("u0", f"wrong {number}")
    assert len(bench.check._wrong) == 3
    await bench.check("u1", "secret")  # wrong ones push no right one out
    assert len(bench.computed) == 14
    await bench.check("u0", "secret")
    assert len(bench.computed) == 15
    assert len(bench.check._right) == 3


async def test_no_more_than_a_few_are_computed_at_a_time(bench: Bench) -> None:
    bench.gate.clear()
    guesses = [asyncio.create_task(bench.check("ann", f"guess {number}")) for number in range(8)]
    await until(lambda: len(bench.computed) == 2)
    bench.gate.set()
    assert await asyncio.gather(*guesses) == [None] * 8
    assert bench.at_a_time <= {1, 2}


async def test_who_asks_the_same_meanwhile_gets_the_same_answer(bench: Bench) -> None:
    bench.gate.clear()
    asked = [asyncio.create_task(bench.check("ann", "secret")) for _ in range(50)]
    await until(lambda: len(bench.computed) == 1)
    asked[0].cancel()  # its client left
    bench.gate.set()
    assert await asyncio.gather(*asked[1:]) == [ANN] * 49
    assert len(bench.computed) == 1


async def test_the_same_password_for_two_names_that_nobody_has_is_two_questions(bench: Bench) -> None:
    """Or one could tell them from names that somebody has by how fast they are answered together."""
    await asyncio.gather(bench.check("bob", "x"), bench.check("eve", "x"), bench.check("a b", "x"))
    assert len(bench.computed) == 3


async def test_when_the_line_is_full_it_is_said_at_once_and_right_ones_of_before_still_pass(
    bench: Bench,
) -> None:
    check = bench.new(workers=1, max_waiting=2)
    assert await check("ann", "secret") == ANN
    bench.gate.clear()
    guesses = [asyncio.create_task(check("ann", f"guess {number}")) for number in range(3)]
    await until(lambda: len(bench.computed) == 2)
    for name in ("ann", "bob"):
        with pytest.raises(TooBusy):
            await check(name, "one more")
    assert await check("ann", "secret") == ANN
    bench.gate.set()
    assert await asyncio.gather(*guesses) == [None] * 3
    assert await check("ann", "one more") is None
    await check.close()


async def test_who_waits_in_line_when_it_is_closed_hears_of_it(bench: Bench) -> None:
    check = bench.new(workers=1)
    bench.gate.clear()
    first, second = (asyncio.create_task(check("ann", password)) for password in ("secret", "x"))
    await until(lambda: len(bench.computed) == 1 and len(check._running) == 2)
    closing = asyncio.create_task(check.close())
    with pytest.raises(TooBusy):
        await second
    bench.gate.set()
    assert await first == ANN
    await closing
    assert (await _authenticated(check, "ann", "y"))[0] == replies.CANNOT_AUTHENTICATE


# What the client hears


async def _authenticated(
    authenticator: Authenticator | None, name: str, password: str
) -> tuple[object, User | None]:
    return await authenticate(events.Authenticate(name, password), authenticator, 5)


async def test_the_user_comes_with_the_reply(bench: Bench) -> None:
    assert await _authenticated(bench.check, "ann", "secret") == (replies.AUTH_OK, ANN)
    assert await _authenticated(bench.check, "ann", "wrong") == (replies.AUTH_FAILED, None)
    assert await _authenticated(bench.check, "bob", "secret") == (replies.AUTH_FAILED, None)


async def test_trouble_with_the_store_is_454_also_for_who_was_right_before(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await bench.check("ann", "secret")
    bench.faults.fail("users.user")
    assert await _authenticated(bench.check, "ann", "secret") == (replies.CANNOT_AUTHENTICATE, None)
    assert await _authenticated(bench.check, "ann", "secret") == (replies.AUTH_OK, ANN)
    assert "secret" not in caplog.text


async def test_a_hash_that_cannot_be_used_is_454(bench: Bench) -> None:
    check = PasswordCheck(bench.users)
    bench.change(password_hash="$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA")
    assert await _authenticated(check, "ann", "secret") == (replies.CANNOT_AUTHENTICATE, None)
    await check.close()


async def test_without_an_authenticator_it_is_454() -> None:
    assert await _authenticated(None, "ann", "secret") == (replies.CANNOT_AUTHENTICATE, None)


async def test_the_real_thing_at_its_usual_cost() -> None:
    encoded = hash_password("secret", b"0123456789abcdef")
    users = MemoryUsers([User(name="ann", password_hash=encoded, created_at=START)])
    check = PasswordCheck(users)
    assert await check("ann", "secret") is not None
    assert await check("ann", "wrong") is None
    assert await check("bob", "secret") is None
    await check.close()
