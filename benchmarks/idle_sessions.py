"""Memory of the SMTP listener per idle session: greeted, EHLO said, and then silence.

    .venv/bin/python -m benchmarks.idle_sessions [--sessions 5000]

Resident memory of the listener's process (Linux only), after all sessions are there and before any was; what
the kernel keeps for its sockets is not in it. With TLS each session has done STARTTLS and said EHLO again.
Exit code 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import ssl
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection

from benchmarks.listeners import LOOPS, PROCESSES, listening, raise_open_files

KIB = 1024
GOAL = 64 * KIB
"""Octets per session without TLS, at most."""

ROOM = 100
"""Files that a process has open beside its sockets, at most."""

PORTS = 20_000
"""Connections from one loopback address: Linux gives out 28,000 ports of each unless told otherwise."""

TIMEOUT = 30


def octets_per_session(loop: str, sessions: int, *, tls: bool) -> float:
    with listening("empath", loop, tls) as listener, _clients(listener.port, 10, tls):
        before = listener.usage().resident  # all code was in use once
        with _clients(listener.port, sessions, tls):
            return (listener.usage().resident - before) / sessions


class _clients:  # noqa: N801 (used as a function is)
    """So many sessions, held open in a process of their own until the end of the block."""

    def __init__(self, port: int, sessions: int, tls: bool) -> None:
        self._pipe, its = PROCESSES.Pipe()
        self._process = PROCESSES.Process(target=_hold, args=(port, sessions, tls, its), daemon=True)

    def __enter__(self) -> None:
        self._process.start()
        if (failure := self._pipe.recv()) is not None:
            raise RuntimeError(failure)

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.join()


def _hold(port: int, sessions: int, tls: bool, pipe: Connection) -> None:
    raise_open_files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with ExitStack() as stack:
        try:
            for number in range(sessions):
                session = _session(port, f"127.0.0.{2 + number // PORTS}", context if tls else None)
                stack.enter_context(session)
        except OSError as error:
            pipe.send(f"after {number} sessions: {error}")
            return
        pipe.send(None)
        pipe.recv()


def _session(port: int, source: str, tls: ssl.SSLContext | None) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT, source_address=(source, 0))
    _hear(connection)
    _say(connection, b"EHLO client.test\r\n")
    if tls is not None:
        _say(connection, b"STARTTLS\r\n")
        connection = tls.wrap_socket(connection)
        _say(connection, b"EHLO client.test\r\n")
    return connection


def _say(connection: socket.socket, octets: bytes) -> None:
    connection.sendall(octets)
    _hear(connection)


def _hear(connection: socket.socket) -> None:
    heard = b""
    while not heard.endswith(b"\n"):
        octets = connection.recv(4 * KIB)
        if not octets:
            raise ConnectionError("the listener has closed the connection")
        heard += octets


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_sessions")
    parser.add_argument("--sessions", type=int, default=5000, help="at a time (default 5000)")
    given = parser.parse_args()
    files = raise_open_files()
    if not 1 <= given.sessions <= files - ROOM:
        parser.error(f"--sessions must be 1 to {files - ROOM}: a process may open {files} files (ulimit -n)")
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    lines = [f"{python}; {given.sessions} idle sessions: KiB of resident memory each", ""]
    lines.append(f"{'':12}{'plain':>10}{'TLS':>10}")
    missed = False
    for loop in LOOPS:
        plain = octets_per_session(loop, given.sessions, tls=False)
        secure = octets_per_session(loop, given.sessions, tls=True)
        lines.append(f"{loop:12}{plain / KIB:10.1f}{secure / KIB:10.1f}")
        missed = missed or plain > GOAL
    lines += ["", f"goal, at most {GOAL // KIB} KiB without TLS: {'missed' if missed else 'held'}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
