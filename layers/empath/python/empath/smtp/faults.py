"""The one exception of the core: a command that cannot be read, with the reply that says why."""

from __future__ import annotations

from empath.domain.errors import EmpathError
from empath.domain.reply import Reply


class CommandFault(EmpathError):
    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply
