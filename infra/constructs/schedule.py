"""The clock: invokes a function once a minute."""

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

EVERY = cdk.Duration.minutes(1)


class MinuteClock(Construct):
    """A tick that fails is not repeated: the next one finds the same work."""

    def __init__(self, scope: Construct, id: str, function: lambda_.Function) -> None:
        super().__init__(scope, id)
        events.Rule(
            self,
            "EveryMinute",
            description="Empath: promotes deferred deliveries and heals lost jobs",
            schedule=events.Schedule.rate(EVERY),
            targets=[
                targets.LambdaFunction(function, retry_attempts=0, max_event_age=EVERY),
            ],
        )
        function.configure_async_invoke(retry_attempts=0, max_event_age=EVERY)
