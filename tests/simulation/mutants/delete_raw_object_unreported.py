"""A delivery counts as settled although its report is still to be written, from the raw object."""

PATCHES = (
    (
        "empath.domain.records",
        """\
        return self.is_final and not self.owes_reports
""",
        """\
        return self.is_final
""",
    ),
)
