"""Attempts whose workers died have no line in the audit trail."""

PATCHES = (
    (
        "empath.pipeline.changes",
        """\
    return attempt.duration is not None or attempt.ambiguous
""",
        """\
    return attempt.duration is not None
""",
    ),
)
