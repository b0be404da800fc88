"""Of all deferrals of a recipient only the first is told."""

PATCHES = (
    (
        "empath.pipeline.changes",
        "(before.state, before.attempt) != (known.state, known.attempt)",
        "before.state is not known.state",
    ),
)
