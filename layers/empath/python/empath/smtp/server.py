"""The server's side of an SMTP session (RFC 5321), without input or output.

    session = ServerSession(hostname, offer, limits)
    session.greet()
    session.receive(octets)                     # from the client
    while (event := session.next_event()) is not None:
        session.accept() or session.refuse(reply)   # for the events that want a decision
    transport.write(session.replies())          # to the client, all that has gathered

Invariant: whatever octets come in, they end in events and replies, never in an exception, and the
same octets give the same events and replies however they are cut into pieces (chunks of content
aside, whose borders follow the input's). Between an event that wants a decision and the decision,
nothing else happens; `next_event` gives None and input waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from empath.domain.address import Mailbox
from empath.domain.envelope import Recipient
from empath.domain.reply import Reply
from empath.smtp import events, grammar, replies
from empath.smtp.authentication import AuthSession
from empath.smtp.chunking import parse_bdat
from empath.smtp.content import Input
from empath.smtp.events import EndCause, Event
from empath.smtp.extensions import Offer
from empath.smtp.faults import CommandFault
from empath.smtp.grammar import Command
from empath.smtp.limits import Limits
from empath.smtp.state import OUT_OF_ORDER, State, Step
from empath.smtp.transaction import Transaction


class ServerSession(AuthSession):
    def __init__(
        self, hostname: str, offer: Offer, limits: Limits, *, must_authenticate: bool = False
    ) -> None:
        """`must_authenticate`: nobody sends mail before AUTH (RFC 6409 §4.3)."""
        super().__init__(limits)
        self.is_secure = False
        """Whether TLS is active."""
        self._must_authenticate = must_authenticate
        self._hostname = hostname
        self._offer = offer
        self._transaction = Transaction(None)
        self._messages = 0

    # What the owner does

    def greet(self) -> None:
        """Say 220; once, before anything else."""
        self._output.append(replies.encode(replies.greeting(self._hostname)))

    def receive(self, octets: bytes) -> None:
        """Take octets from the client; nothing happens before `next_event`.

        Those that come between STARTTLS and the end of the handshake are no part of the session.
        """
        if self.state is not State.HANDSHAKE:
            super().receive(octets)

    def secured(self, *, is_identified: bool = False) -> None:
        """TLS was there before the greeting (RFC 8314 §3.3). `is_identified`: the client's certificate names
        a user, who need not authenticate."""
        self.is_secure = True
        if is_identified:
            self._must_authenticate = False

    def tls_started(self, *, is_identified: bool = False) -> None:
        """The handshake is done: all begins anew, EHLO included (RFC 3207 §4.2)."""
        self._advance(Step.TLS_STARTED)
        self.secured(is_identified=is_identified)

    def next_event(self) -> Event | None:
        """What happened next; None while a decision or more input is needed."""
        while not self._events:
            if self._awaiting is not None or self.state in _SILENT:
                return None
            if not _READERS[self._expects](self):
                return None
        return self._events.popleft()

    def accept(self, reply: Reply | None = None) -> None:
        """Decide for the event that waits; `reply` is said instead of the usual words."""
        event, self._awaiting = self._awaiting, None
        match event:
            case events.Helo():
                lines = self._offer.ehlo_lines(is_secure=self.is_secure) if event.esmtp else ()
                self._abandon_chunks()
                self._advance(Step.GREET)
                self._say(reply or replies.helo_ok(self._hostname, lines))
            case events.StartTls():
                self._input.clear()
                self._advance(Step.START_TLS)
                self._write(replies.START_TLS)
            case events.Authenticate():
                self.user = event.user
                self._say(reply or replies.AUTH_OK)
            case events.MailFrom():
                self._transaction = Transaction(event.reverse_path, event.parameters)
                self._advance(Step.MAIL)
                self._say(reply or replies.MAIL_OK)
            case events.RcptTo():
                self._transaction.add(event.recipient)
                self._advance(Step.RECIPIENT)
                self._say(reply or replies.RCPT_OK)
            case events.MessageBegins():
                if event.in_chunks:
                    self._begin_chunks()
                else:
                    self._begin_content()
            case events.MessageEnds():
                self._errors = 0
                self._advance(Step.RESET)
                self._say(reply or replies.MESSAGE_OK)
            case None:
                raise RuntimeError("no event waits for a decision")

    def refuse(self, reply: Reply) -> None:
        """Decide against the event that waits; a reply 421 ends the session."""
        event, self._awaiting = self._awaiting, None
        match event:
            case events.RcptTo():
                self._advance(Step.RECIPIENT_REFUSED)
            case events.MessageBegins(in_chunks=True) if reply.code != 421:
                self._refuse_chunk(reply)
                return
            case events.MessageEnds():
                self._advance(Step.RESET)
            case None:
                raise RuntimeError("no event waits for a decision")
        self._say(reply)

    # Commands

    def _read_command(self) -> bool:
        line = self._input.take_line()
        if line is None:
            return False
        if isinstance(line, Reply):
            self._fail(line)
            return True
        command = grammar.parse_command(line)
        try:
            self._perform(command)
        except CommandFault as fault:
            self._fail(fault.reply)
        return True

    def _perform(self, command: Command) -> None:
        perform = _COMMANDS.get(command.verb)
        if perform is None or (command.verb in _BROUGHT and command.verb not in self._offer.commands):
            known = command.verb in _NOT_IMPLEMENTED
            raise CommandFault(replies.NOT_IMPLEMENTED if known else replies.UNKNOWN_COMMAND)
        out_of_order = OUT_OF_ORDER.get((self.state, command.verb))
        if out_of_order is not None and command.verb != "BDAT":  # which has octets to be swallowed
            raise CommandFault(out_of_order)
        perform(self, command)

    def _helo(self, command: Command) -> None:
        # RFC 5321 §4.1.1.1
        name = grammar.parse_helo_name(command.argument)
        self._ask(events.Helo(name, esmtp=command.verb == "EHLO"))

    def _starttls(self, command: Command) -> None:
        # RFC 3207 §4
        _without_argument(command)
        if self.is_secure:
            raise CommandFault(replies.TLS_IS_ACTIVE)
        self._ask(events.StartTls())

    def _auth(self, command: Command) -> None:
        # RFC 4954 §4
        if not self.is_secure:
            raise CommandFault(replies.NEED_TLS)
        if self.user is not None:
            raise CommandFault(replies.IS_AUTHENTICATED)
        self._begin_exchange(command.argument)

    def _mail(self, command: Command) -> None:
        # RFC 5321 §4.1.1.2
        if self._must_authenticate and self.user is None:
            raise CommandFault(replies.NEED_AUTH if self.is_secure else replies.NEED_STARTTLS)
        self._messages += 1
        if self._messages > self._limits.max_messages:
            raise CommandFault(replies.TOO_MANY_MESSAGES)
        reverse_path, rest = grammar.parse_mail(command.argument)
        parameters = self._offer.mail_parameters(rest)
        self._check_ascii(reverse_path, parameters.smtputf8)
        self._ask(events.MailFrom(reverse_path, parameters))

    def _rcpt(self, command: Command) -> None:
        # RFC 5321 §4.1.1.3
        mailbox, rest = grammar.parse_rcpt(command.argument, self._hostname)
        parameters = self._offer.rcpt_parameters(rest)
        self._check_ascii(mailbox, self._transaction.parameters.smtputf8)
        if not (parameters.orcpt or "").isascii() and not self._transaction.parameters.smtputf8:
            raise CommandFault(replies.bad_parameter("ORCPT"))  # RFC 6533 §3
        recipient = Recipient(mailbox=mailbox, notify=parameters.notify, orcpt=parameters.orcpt)
        if not self._transaction.has_room(recipient, self._limits):
            raise CommandFault(replies.TOO_MANY_RECIPIENTS)  # RFC 5321 §4.5.3.1.10
        self._ask(events.RcptTo(recipient))

    def _data(self, command: Command) -> None:
        # RFC 5321 §4.1.1.4
        _without_argument(command)
        self._ask(events.MessageBegins(self._transaction.envelope()))

    def _bdat(self, command: Command) -> None:
        # RFC 3030 §2
        chunk = parse_bdat(command.argument)
        is_first = self.state is State.RECIPIENTS
        envelope = self._transaction.envelope() if is_first else None
        self._begin_chunk(chunk, OUT_OF_ORDER.get((self.state, "BDAT")), envelope)

    def _rset(self, command: Command) -> None:
        # RFC 5321 §4.1.1.5
        _without_argument(command)
        self._abandon_chunks()
        self._advance(Step.RESET)
        self._say(replies.OK)

    def _noop(self, command: Command) -> None:
        # RFC 5321 §4.1.1.9, its argument is ignored
        self._say(replies.OK)

    def _vrfy(self, command: Command) -> None:
        # RFC 5321 §3.5.3: a relay cannot know, and says so
        name, space, parameter = command.argument.rpartition(" ")
        may_be_utf8 = bool(space) and parameter.upper() == "SMTPUTF8" and self._offer.has("SMTPUTF8")
        if not (name.strip() if may_be_utf8 else command.argument):
            raise CommandFault(replies.BAD_VRFY)
        if not (may_be_utf8 or command.argument.isascii()):
            raise CommandFault(replies.NEED_SMTPUTF8)  # RFC 6531 §3.7.4.2
        self._say(replies.CANNOT_VERIFY)

    def _help(self, command: Command) -> None:
        # RFC 5321 §4.1.1.8
        self._say(replies.HELP)

    def _quit(self, command: Command) -> None:
        # RFC 5321 §4.1.1.10
        _without_argument(command)
        self._close(replies.BYE, EndCause.QUIT)

    @staticmethod
    def _check_ascii(mailbox: Mailbox | None, smtputf8: bool) -> None:
        if mailbox is not None and not smtputf8 and not mailbox.is_ascii:
            raise CommandFault(replies.NEED_SMTPUTF8)  # RFC 6531 §3.5


def _without_argument(command: Command) -> None:
    if command.argument:
        raise CommandFault(replies.NO_ARGUMENT_ALLOWED)


_COMMANDS: Mapping[str, Callable[[ServerSession, Command], None]] = {
    "EHLO": ServerSession._helo,
    "HELO": ServerSession._helo,
    "STARTTLS": ServerSession._starttls,
    "AUTH": ServerSession._auth,
    "MAIL": ServerSession._mail,
    "RCPT": ServerSession._rcpt,
    "DATA": ServerSession._data,
    "BDAT": ServerSession._bdat,
    "RSET": ServerSession._rset,
    "NOOP": ServerSession._noop,
    "VRFY": ServerSession._vrfy,
    "HELP": ServerSession._help,
    "QUIT": ServerSession._quit,
}

_BROUGHT = frozenset({"BDAT", "STARTTLS", "AUTH"})
"""Commands that an extension brings."""

_SILENT = frozenset({State.HANDSHAKE, State.CLOSED})
"""States in which nothing that the client says counts."""

_READERS: Mapping[Input, Callable[[ServerSession], bool]] = {
    Input.COMMAND: ServerSession._read_command,
    Input.CONTENT: ServerSession._read_content,
    Input.CHUNK: ServerSession._read_chunk,
    Input.RESPONSE: ServerSession._read_response,
}

# Commands of RFC 5321, its predecessor and extensions that are not offered: 502, not 500 (§4.2.4).
_NOT_IMPLEMENTED = frozenset(
    {"EXPN", "TURN", "ETRN", "ATRN", "BDAT", "BURL", "STARTTLS", "AUTH", "SEND", "SOML", "SAML"}
    | {"XCLIENT", "XFORWARD"}
)
