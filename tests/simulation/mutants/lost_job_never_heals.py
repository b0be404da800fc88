"""The clock never takes a job for lost."""

PATCHES = (
    (
        "empath.pipeline.retry",
        "return row.job_at is None or row.job_at + OVERDUE <= now",
        "return row.job_at is None",
    ),
)
