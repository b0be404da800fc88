"""Automatic replies are reported like a person's mail."""

PATCHES = (
    (
        "empath.pipeline.dsn",
        "return origin is Origin.REPLIED or (",
        "return (",
    ),
)
