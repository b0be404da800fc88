"""The clock only wakes deliveries that are many hours overdue."""

PATCHES = (
    (
        "empath.pipeline.retry",
        "before=now + SQS_HORIZON,",
        "before=now - 40 * SQS_HORIZON,",
    ),
)
