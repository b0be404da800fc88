"""A held delivery counts as settled: its raw object goes."""

PATCHES = (
    (
        "empath.domain.records",
        """\
        return self.is_final and not self.owes_reports
""",
        """\
        return (self.is_final or self.status is State.HELD) and not self.owes_reports
""",
    ),
)
