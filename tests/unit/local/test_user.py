"""The user of the local stack: there at every start, with the password of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from empath.domain.password import verify_password
from empath.domain.user import User
from empath.local.user import NAME, password_file, provide_user, read_password
from empath.testing.clock import ManualClock
from empath.testing.memory_users import MemoryUsers


class Bench:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.users = MemoryUsers()
        self.clock = ManualClock()

    async def start(self) -> User:
        await provide_user(self.users, self.clock, self.state_dir)
        user = await self.users.user(NAME)
        assert user is not None
        return user

    async def password_is_right(self) -> bool:
        user, password = await self.start(), read_password(self.state_dir)
        assert user.password_hash is not None and password is not None
        return verify_password(password, user.password_hash)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_the_first_start_makes_a_user_who_may_send_as_anybody(bench: Bench) -> None:
    user = await bench.start()
    assert user.domains == ("*",)
    assert await bench.password_is_right()
    assert password_file(bench.state_dir).stat().st_mode & 0o777 == 0o600


async def test_later_starts_change_nothing(bench: Bench) -> None:
    user, password = await bench.start(), read_password(bench.state_dir)
    assert await bench.start() == user
    assert read_password(bench.state_dir) == password


async def test_two_stacks_have_two_passwords(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    other.state_dir.mkdir()
    await bench.start()
    await other.start()
    assert read_password(bench.state_dir) != read_password(other.state_dir)


async def test_a_password_that_is_written_into_the_file_counts_from_the_next_start(bench: Bench) -> None:
    await bench.start()
    password_file(bench.state_dir).write_text("of my own\n")
    assert await bench.password_is_right()
    assert read_password(bench.state_dir) == "of my own"


@pytest.mark.parametrize("left", [None, b"\n", b"\xff\xfe"])
async def test_without_a_password_that_can_be_read_there_is_a_new_one(
    bench: Bench, left: bytes | None
) -> None:
    await bench.start()
    if left is None:
        password_file(bench.state_dir).unlink()
    else:
        password_file(bench.state_dir).write_bytes(left)
    assert await bench.password_is_right()


async def test_what_was_changed_of_the_user_stays(bench: Bench) -> None:
    user = await bench.start()
    changed = user.model_copy(update={"domains": ("shop.test",), "password_hash": None})
    await bench.users.put_user(changed, replacing=user)
    assert await bench.password_is_right()
    assert (await bench.start()).domains == ("shop.test",)
