"""A deferral does not count its attempt."""

PATCHES = (
    (
        "empath.pipeline.conclude",
        '            "attempt": record.attempt + 1,',
        '            "attempt": record.attempt + len(lost),',
    ),
)
