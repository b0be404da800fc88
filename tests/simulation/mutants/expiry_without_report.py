"""Recipients that expire are not reported."""

PATCHES = (
    (
        "empath.pipeline.report_events",
        "if recipient.state in (State.FAILED, State.EXPIRED):",
        "if recipient.state is State.FAILED:",
    ),
)
