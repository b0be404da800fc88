"""`empathctl user`: who may authenticate. A password is shown once or read from standard input, and never
an argument, for those are in the shell's history and in everybody's list of processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from empath.control import render, user_accounts
from empath.control.changing import change
from empath.control.documents import user_document
from empath.control.errors import BadUsage
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.target import DEFAULT_STATE_DIR, Target, find_target
from empath.domain.user import User
from empath.pipeline.operator_log import Entry
from empath.ports import Users

T = TypeVar("T")

user = typer.Typer(help="Who may authenticate, and send from where.", **SETTINGS)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As the client gives it to AUTH, in any case.")]
Tenant = Annotated[str | None, typer.Option(help="Whom messages of this user are told to belong to.")]
Rate = Annotated[int | None, typer.Option(help="Messages an hour; else the deployment's default.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")
]
NoPassword = Annotated[
    bool, typer.Option("--no-password", help="None at all: known by a client certificate only.")
]
DOMAIN_HELP = "A domain to send from; .example.com is all below it, * any; several times."


@user.command()
def add(
    name: Name,
    domain: Annotated[list[str], typer.Option(help=DOMAIN_HELP)],
    tenant: Tenant = None,
    priority: Annotated[str, typer.Option(help="high, normal or bulk.")] = "normal",
    messages_per_hour: Rate = None,
    password_stdin: PasswordStdin = False,
    no_password: NoPassword = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Make a user. Its password is generated and shown this once, unless an option says otherwise."""
    wanted = user_accounts.read_name(name)
    fields: dict[str, Any] = {
        "name": wanted,
        "domains": domain,
        "tenant": tenant,
        "priority": priority,
        "messages_per_hour": messages_per_hour,
    }
    user_accounts.check_fields(fields)
    target = find_target(state_dir)
    password, is_new = _password(password_stdin=password_stdin, no_password=no_password)
    fields["password_hash"] = user_accounts.kept(password)

    async def put(users: Users, line: Entry) -> User:
        added = await user_accounts.add(users, fields, datetime.now(UTC))
        line.after = user_accounts.told(added)
        return added

    added = change(target, "user add", wanted, target.users, put, field="user")
    _tell(added, "added", as_json=as_json, password=password if is_new else None)


@user.command("list")
def list_(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """All users, revoked ones too."""
    found = _with_users(find_target(state_dir), lambda users: users.users())
    if as_json:
        print_json({"users": [user_document(entry) for entry in found]})
    else:
        render.show_users(new_console(), found, datetime.now(UTC))


@user.command()
def show(name: Name, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """One user. Its password is not kept, so it cannot be shown."""
    wanted = user_accounts.read_name(name)
    found = _with_users(find_target(state_dir), lambda users: user_accounts.find(users, wanted))
    if as_json:
        print_json({"user": user_document(found)})
    else:
        render.show_user(new_console(), found, datetime.now(UTC))


@user.command("set")
def set_(
    name: Name,
    domain: Annotated[list[str] | None, typer.Option(help=f"{DOMAIN_HELP} In place of all before.")] = None,
    tenant: Tenant = None,
    no_tenant: Annotated[bool, typer.Option("--no-tenant", help="Belongs to nobody any more.")] = False,
    priority: Annotated[str | None, typer.Option(help="high, normal or bulk.")] = None,
    messages_per_hour: Rate = None,
    default_rate: Annotated[
        bool, typer.Option("--default-rate", help="As many messages an hour as the deployment grants.")
    ] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Change what is given, and nothing else."""
    wanted = user_accounts.read_name(name)
    if (tenant is not None and no_tenant) or (messages_per_hour is not None and default_rate):
        raise BadUsage("an option and its opposite cannot both be meant")
    given = {
        "domains": domain or None,
        "tenant": tenant,
        "priority": priority,
        "messages_per_hour": messages_per_hour,
    }
    fields: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    fields |= {"tenant": None} if no_tenant else {}
    fields |= {"messages_per_hour": None} if default_rate else {}
    if not fields:
        raise BadUsage("nothing to change: see `empathctl user set --help`")
    user_accounts.check_fields(fields)
    _tell(_changed("user set", wanted, fields, find_target(state_dir)), "changed", as_json=as_json)


@user.command()
def revoke(name: Name, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Let a user in no more. The record stays, and `restore` takes it back."""
    wanted = user_accounts.read_name(name)

    async def put(users: Users, line: Entry) -> User:
        revoked = await user_accounts.revoke(users, wanted, datetime.now(UTC))
        line.after = user_accounts.told(revoked)
        return revoked

    target = find_target(state_dir)
    revoked = change(target, "user revoke", wanted, target.users, put, field="user")
    _tell(revoked, "is revoked", as_json=as_json)


@user.command()
def restore(name: Name, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Let a revoked user in again, with its password of before."""
    wanted = user_accounts.read_name(name)
    restored = _changed("user restore", wanted, {"revoked_at": None}, find_target(state_dir))
    _tell(restored, "is in force", as_json=as_json)


@user.command()
def passwd(
    name: Name,
    password_stdin: PasswordStdin = False,
    no_password: NoPassword = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Give a user another password: generated and shown this once, unless an option says otherwise."""
    wanted = user_accounts.read_name(name)
    target = find_target(state_dir)
    password, is_new = _password(password_stdin=password_stdin, no_password=no_password)
    fields = {"password_hash": user_accounts.kept(password)}
    changed = _changed("user passwd", wanted, fields, target)
    words = "has no password any more" if password is None else "has a new password"
    _tell(changed, words, as_json=as_json, password=password if is_new else None)


def _password(*, password_stdin: bool, no_password: bool) -> tuple[str | None, bool]:
    """The password to keep, and whether it was generated, so that it has to be shown."""
    if password_stdin and no_password:
        raise BadUsage("--password-stdin and --no-password cannot both be meant")
    if no_password:
        return None, False
    if password_stdin:
        return user_accounts.read_password(sys.stdin), False
    return user_accounts.new_password(), True


def _changed(action: str, name: str, fields: dict[str, Any], target: Target) -> User:
    async def put(users: Users, line: Entry) -> User:
        line.before = user_accounts.told(await user_accounts.find(users, name))
        changed = await user_accounts.change(users, name, fields)
        line.after = user_accounts.told(changed)
        return changed

    return change(target, action, name, target.users, put, field="user")


def _with_users(target: Target, work: Callable[[Users], Awaitable[T]]) -> T:
    async def run() -> T:
        async with target.users() as users:
            return await work(users)

    return asyncio.run(run())


def _tell(user: User, words: str, *, as_json: bool, **passwords: str | None) -> None:
    """What became of a user; `password=` the generated one, None where it was none."""
    if as_json:
        print_json({"user": user_document(user), **passwords})
        return
    console = new_console()
    render.show_user(console, user, datetime.now(UTC))
    password = passwords.get("password")
    if password is not None:
        console.print(
            f"  generated   {password}   (shown this once; only a hash of it is kept)", markup=False
        )
    console.print(f"{user.name} {words}; every listener knows within 30 seconds", markup=False)
