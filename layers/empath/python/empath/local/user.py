"""A user to try submission with, whose password is in the state directory."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from empath.domain.instant import whole_milliseconds
from empath.domain.password import SALT_OCTETS, hash_password, verify_password
from empath.domain.user import ANY_DOMAIN, User
from empath.local.certificate import write_private
from empath.ports import Clock, Users

NAME = "dev"
PASSWORD_OCTETS = 12


def password_file(state_dir: Path) -> Path:
    return state_dir / f"{NAME}.password"


def read_password(state_dir: Path) -> str | None:
    """None where there is no password yet, or one that cannot be read."""
    try:
        return password_file(state_dir).read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


async def provide_user(users: Users, clock: Clock, state_dir: Path) -> None:
    """Let the user be there, with the password of the file; a new password where there is no file.

    Whatever else was changed of the user stays. Raises ControlTrouble, UserConflict and OSError.
    """
    password = read_password(state_dir)
    if password is None:
        password = secrets.token_hex(PASSWORD_OCTETS)  # no dash in front that a command line would trip over
        write_private(password_file(state_dir), f"{password}\n".encode())
    known = await users.user(NAME)
    if known is not None and await _has(known, password):
        return
    encoded = await asyncio.to_thread(hash_password, password, secrets.token_bytes(SALT_OCTETS))
    if known is None:
        created = whole_milliseconds(clock.now())
        known = User(name=NAME, password_hash=encoded, domains=(ANY_DOMAIN,), created_at=created)
        await users.put_user(known)
    else:
        await users.put_user(known.model_copy(update={"password_hash": encoded}), replacing=known)


async def _has(user: User, password: str) -> bool:
    if user.password_hash is None:
        return False
    return await asyncio.to_thread(verify_password, password, user.password_hash)
