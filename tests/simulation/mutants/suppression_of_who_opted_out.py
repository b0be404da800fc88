"""The failures of a tenant that does without the suppression list are put on it."""

PATCHES = (
    (
        "empath.pipeline.chronicle",
        """\
                if policy.enabled:
""",
        """\
                if policy is not None:
""",
    ),
)
