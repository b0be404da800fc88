"""A batch that settles something is not told: its settling counts as all of its work."""

PATCHES = (
    (
        "empath.pipeline.chronicle",
        """\
        if self.events is None:
            return
""",
        """\
        if self.events is None or any(getattr(c.new, "is_settled", False) for c in changes):
            return
""",
    ),
)
