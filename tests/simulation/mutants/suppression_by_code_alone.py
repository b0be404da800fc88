"""A 5.1.1 in the words of a block list puts an address on the suppression list."""

PATCHES = (
    (
        "empath.domain.suppression",
        "if _SOMETHING_ELSE.search(reply.text) or ",
        "if ",
    ),
)
