"""Who fails because of the suppression list is put on it again."""

PATCHES = (
    (
        "empath.domain.suppression",
        " or reason not in (None, Reason.NEXT_HOP_REPLY):",
        ":",
    ),
)
