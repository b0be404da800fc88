"""Users as an operator changes them: read from words, made, changed, and given passwords."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from empath.control.errors import BadUsage, ControlError
from empath.domain.errors import InvalidUser, UserConflict
from empath.domain.instant import whole_milliseconds
from empath.domain.password import SALT_OCTETS, hash_password
from empath.domain.user import User, read_user, user_name
from empath.ports import Users

PASSWORD_LENGTH = 32
"""Of a generated one: 186 bits, so that nobody guesses it from its hash whatever becomes of scrypt."""

PASSWORD_CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"  # noqa: S105 (an alphabet)
"""Without those that are taken for others when they are typed from a screen; none needs quoting anywhere."""

MIN_PASSWORD, MAX_PASSWORD = 8, 256
"""Characters of a chosen one (NIST SP 800-63B §5.1.1.2 asks for 8 and for 64 to be possible)."""


def read_name(text: str) -> str:
    """A user's name in the one form that it is kept in. Raises BadUsage."""
    try:
        return user_name(text)
    except InvalidUser as error:
        raise BadUsage(f"{text!r} cannot be a user: {error}") from None


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raise BadUsage unless a user could have these."""
    _checked({"name": "somebody", "created_at": datetime.fromtimestamp(0, UTC), **fields})


def new_password() -> str:
    return "".join(secrets.choice(PASSWORD_CHARACTERS) for _ in range(PASSWORD_LENGTH))


def read_password(stream: TextIO) -> str:
    """The first line of `stream`. Raises BadUsage, which never quotes it."""
    try:
        password = stream.readline(MAX_PASSWORD * 4).rstrip("\r\n")
        password.encode()
    except UnicodeError:
        raise BadUsage("--password-stdin: standard input is not valid UTF-8") from None
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadUsage(
            f"--password-stdin: a password of {MIN_PASSWORD} to {MAX_PASSWORD} characters is needed "
            f"on the first line of standard input, not one of {len(password)}"
        )
    if "\0" in password:
        raise BadUsage("--password-stdin: AUTH carries no NUL in a password (RFC 4616 §2)")
    return password


def kept(password: str | None) -> str | None:
    """What is kept of a password, with a salt of its own; None for none."""
    return None if password is None else hash_password(password, secrets.token_bytes(SALT_OCTETS))


async def find(users: Users, name: str) -> User:
    """Raises ControlError when there is no such user."""
    user = await users.user(name)
    if user is None:
        raise ControlError(f"there is no user {name}", "see `empathctl user list`")
    return user


async def add(users: Users, fields: Mapping[str, Any], now: datetime) -> User:
    """A new user. Raises BadUsage for fields that cannot be, ControlError for a name that is taken."""
    user = _checked({**fields, "created_at": whole_milliseconds(now)})
    try:
        await users.put_user(user)
    except UserConflict as error:
        raise ControlError(str(error), "change it with `user set`, `user passwd` or `user restore`") from None
    return user


async def change(users: Users, name: str, fields: Mapping[str, Any]) -> User:
    """Replace some fields. Raises BadUsage for what cannot be, ControlError when there is no such user."""
    before = await find(users, name)
    after = _checked({**before.model_dump(), **fields})
    if after == before:
        return before
    try:
        await users.put_user(after, replacing=before)
    except UserConflict as error:
        raise ControlError(f"{error} just now", "look at it with `user show`, then try again") from None
    return after


async def revoke(users: Users, name: str, now: datetime) -> User:
    """From now on, unless it was so before. Raises ControlError when there is no such user."""
    user = await find(users, name)
    return user if user.is_revoked else await change(users, name, {"revoked_at": whole_milliseconds(now)})


def told(user: User) -> str:
    """What an audit line says of a user: all but the name, and of the password whether there is one."""
    words = user.model_dump(mode="json", exclude={"name", "password_hash", "created_at"}, exclude_none=True)
    words["password"] = "set" if user.password_hash is not None else "none"
    return ", ".join(f"{name} {_plain(value)}" for name, value in words.items())


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _checked(words: dict[str, object]) -> User:
    try:
        return read_user(words)
    except InvalidUser as error:
        raise BadUsage(str(error)) from None
