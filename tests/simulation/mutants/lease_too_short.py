"""The lease ends in the middle of the invocation: another worker sends the same message meanwhile."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        "until=now + timedelta(seconds=invocation.remaining()) + LEASE_MARGIN",
        "until=now + timedelta(seconds=1)",
    ),
)
