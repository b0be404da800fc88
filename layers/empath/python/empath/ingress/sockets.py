"""Bound sockets, and why one cannot be had, in words that name the setting."""

from __future__ import annotations

import errno
import socket
from typing import Any

from empath.domain.errors import EmpathError
from empath.ingress.settings import PortKind

SETTINGS = {
    PortKind.RELAY: "EMPATH_SMTP_PORT",
    PortKind.SUBMISSION: "EMPATH_SUBMISSION_PORT",
    PortKind.SUBMISSIONS: "EMPATH_SUBMISSIONS_PORT",
}
"""Where the numbers of ports come from."""

_REASONS = {
    errno.EADDRINUSE: "the port is in use",
    errno.EACCES: "ports below 1024 need a right that this process does not have",
    errno.EADDRNOTAVAIL: "the address is not one of this machine",
}


_HOST_OF = {"EMPATH_HEALTH_PORT": "EMPATH_HEALTH_HOST"}
"""What names the address that a port is on, where it is not the one of all others."""


class ListenError(EmpathError):
    """An address that is to be listened on cannot be had; the text names the setting and says why."""

    @classmethod
    def of(cls, error: OSError, host: str, port: int, setting: str) -> ListenError:
        """`setting` is the port's; the address's own is named where that is what is wrong."""
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            setting = _HOST_OF.get(setting, "EMPATH_SMTP_HOST")
        reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
        return cls(f"{setting}: cannot listen on {host} port {port}: {reason}")


def bind(host: str, port: int, setting: str, *, shared: bool = False) -> list[socket.socket]:
    """A bound socket for each address of `host`, none listening; port 0 is any free one, the same for all.

    `setting` is where the port comes from, for the text of the ListenError that is raised when one cannot
    be had. A `shared` port may be bound by others of the same user that share it, too (SO_REUSEPORT):
    connections are then spread over those that listen.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            same = port_of(bound) if bound else port
            bound.append(_bind(family, (address[0], same, *address[2:]), shared=shared))
    except OSError as error:
        close(bound)
        raise ListenError.of(error, host, port, setting) from error
    return bound


def reserve(host: str, port: int, setting: str) -> list[socket.socket]:
    """Sockets that hold a port for processes that will share it; they must never listen themselves.

    Unlike `bind`, it does not join others that share the port already: that is ListenError.
    """
    close(bind(host, port, setting))  # alone, which is refused as long as anybody listens
    return bind(host, port, setting, shared=True)


def port_of(bound: list[socket.socket]) -> int:
    return int(bound[0].getsockname()[1])


def close(bound: list[socket.socket]) -> None:
    for sock in bound:
        sock.close()


def can_share_ports() -> bool:
    return hasattr(socket, "SO_REUSEPORT")


def _bind(family: socket.AddressFamily, address: Any, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio does
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
