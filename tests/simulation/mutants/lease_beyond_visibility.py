"""The lease outlives the job's visibility timeout by minutes."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        "LEASE_MARGIN = timedelta(seconds=10)",
        "LEASE_MARGIN = timedelta(seconds=300)",
    ),
)
