"""The lease ends in the middle of the invocation: another worker sends the same message meanwhile."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        "return self.clock.now() + timedelta(seconds=invocation.remaining()) + LEASE_MARGIN",
        "return self.clock.now() + timedelta(seconds=1)",
    ),
)
