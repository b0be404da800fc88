"""What became of each recipient of a transaction so far, and what of it is open to doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from empath.domain.outcome import RecipientOutcome, Sent
from empath.smtp.client.envelope import Forward


class Answers:
    """The outcomes by address; the first one that a recipient gets stands, unless it is doubted."""

    def __init__(self, recipients: Sequence[Forward]) -> None:
        self.outcomes: dict[str, RecipientOutcome] = {}
        self.accepted: list[Forward] = []
        """Whom the next hop took at RCPT, in order."""
        self._addresses = tuple(dict.fromkeys(forward.address for forward in recipients))
        self._in_this_flight: list[str] = []

    @property
    def is_settled(self) -> bool:
        """Whether everybody has an outcome already."""
        return len(self.outcomes) == len(self._addresses)

    @property
    def is_sent(self) -> bool:
        """Whether the message was taken for anybody."""
        return any(isinstance(outcome, Sent) for outcome in self.outcomes.values())

    def settle_for_sure(self, outcomes: Mapping[str, RecipientOutcome]) -> None:
        """Outcomes that nothing later makes doubtful."""
        self.outcomes.update(outcomes)

    def settle(self, address: str, outcome: RecipientOutcome) -> None:
        self.outcomes[address] = outcome
        self._in_this_flight.append(address)

    def settle_rest(self, outcome: RecipientOutcome) -> None:
        """The outcome of everybody who has none yet."""
        for address in self._addresses:
            if address not in self.outcomes:
                self.settle(address, outcome)

    def begin_flight(self) -> None:
        """Something is sent: what was heard before answers nothing of it."""
        self._in_this_flight.clear()

    def doubt_this_flight(self) -> None:
        """Take back what was heard since: replies are matched by their order alone."""
        for address in self._in_this_flight:
            self.outcomes.pop(address, None)
