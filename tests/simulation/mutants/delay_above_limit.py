"""Retry jobs are sent with delays that SQS does not know."""

PATCHES = (
    (
        "empath.pipeline.followups",
        "SQS_HORIZON = timedelta(seconds=900)",
        "SQS_HORIZON = timedelta(seconds=3600)",
    ),
)
