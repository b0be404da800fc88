"""What operators do has no line in the audit trail."""

PATCHES = (
    (
        "empath.pipeline.changes",
        "    if done is not None and (old",
        "    if done is not None and not done.id and (old",
    ),
)
