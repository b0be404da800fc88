"""A report says `relayed` although the next hop was told NOTIFY and answers for it."""

PATCHES = (
    (
        "empath.pipeline.report_events",
        "elif recipient.state is State.SENT and not recipient.passed_on:",
        "elif recipient.state is State.SENT:",
    ),
)
