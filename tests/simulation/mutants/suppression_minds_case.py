"""The suppression list tells User@ from user@."""

PATCHES = (
    (
        "empath.domain.suppression",
        """\
    return address.lower()
""",
        """\
    return address
""",
    ),
)
