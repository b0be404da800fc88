"""The event bus on which applications hear what becomes of their mail."""

from aws_cdk import aws_events as events
from constructs import Construct


class Bus(Construct):
    """A bus of its own, so that a rule sees nothing but mail and a grant opens nothing else."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        self.bus = events.EventBus(self, "Lifecycle", description="Empath: what became of mail")
