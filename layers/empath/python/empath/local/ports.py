"""Ports of the loopback interface, asked for before anything is started that would need them."""

from __future__ import annotations

import socket
from collections.abc import Set
from dataclasses import dataclass

from empath.local.errors import LocalStackError
from empath.local.options import HOST, PORTS, PORTS_IF_FREE, LocalOptions

MAX_STEPS = 200


@dataclass(frozen=True, slots=True)
class IngressPorts:
    """Where the ingress listens."""

    smtp: int
    submission: int
    submissions: int
    health: int

    def environment(self) -> dict[str, str]:
        """As the ingress reads them."""
        return {
            "EMPATH_SMTP_PORT": str(self.smtp),
            "EMPATH_SUBMISSION_PORT": str(self.submission),
            "EMPATH_SUBMISSIONS_PORT": str(self.submissions),
            "EMPATH_HEALTH_PORT": str(self.health),
        }


def require_ingress_ports(options: LocalOptions) -> None:
    """Raises LocalStackError for a port of the ingress that was asked for and cannot be listened on."""
    for field, (variable, _) in {"smtp_port": PORTS["smtp_port"], **PORTS_IF_FREE}.items():
        port: int | None = getattr(options, field)
        if port is not None:
            require_free(port, "the ingress", variable)


def ingress_ports(options: LocalOptions) -> IngressPorts:
    """The ports that were asked for, and free ones for those that nobody asked for: to be used at once.

    Raises LocalStackError where there is none.
    """
    asked_for = {field: getattr(options, field) for field in (PORTS | PORTS_IF_FREE)}
    taken = set(asked_for.values())
    chosen: dict[str, int] = {}
    for field, (variable, default) in PORTS_IF_FREE.items():
        port = asked_for[field] or _free_port(default, taken, variable)
        taken.add(port)
        chosen[field.removesuffix("_port")] = port
    return IngressPorts(smtp=options.smtp_port, **chosen)


def require_free(port: int, what: str, variable: str) -> None:
    """Raises LocalStackError when `port`, meant for `what` and named by `variable`, cannot be listened on."""
    problem = _problem_with(port)
    if problem is not None:
        raise LocalStackError(
            f"port {port} of {HOST}, meant for {what}, cannot be used ({problem})",
            f"stop what listens there, or set {variable} to another port",
        )


def _free_port(default: int, taken: Set[int | None], variable: str) -> int:
    """`default`, or the next one that can be had, so that a second stack comes up beside the first.

    Not any that the system would give: those are what outgoing connections are given, too, until it is used.
    """
    for port in range(default, min(default + MAX_STEPS, 65_536)):
        if port not in taken and _problem_with(port) is None:
            return port
    raise LocalStackError(f"no port from {default} on is free", f"set {variable} to one that is")


def _problem_with(port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror
    return None
