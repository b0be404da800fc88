"""A recipient that was sent is reported although nobody asked for that."""

PATCHES = (
    (
        "empath.pipeline.report_events",
        "_UNASKED = frozenset({Action.FAILED, Action.DELAYED})",
        "_UNASKED = frozenset({Action.FAILED, Action.DELAYED, Action.RELAYED})",
    ),
)
