"""What an operator does is written whatever became of the delivery since it was read."""

PATCHES = (
    (
        "empath.testing.memory_ledger",
        "if _what_was_read(stored) != _what_was_read(before):",
        "if False:",
    ),
)
