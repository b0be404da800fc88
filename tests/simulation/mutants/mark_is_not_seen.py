"""A claim does not see that an earlier attempt was marked and never recorded."""

PATCHES = (
    (
        "empath.pipeline.ambiguity",
        "attempt.commits_at is not None and attempt.duration is None for attempt in record.attempts[:-1]",
        "False for attempt in record.attempts[:-1]",
    ),
)
