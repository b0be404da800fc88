"""A claim is granted whatever attempt its job is for, so a late copy begins the next attempt early."""

PATCHES = (
    (
        "empath.testing.memory_ledger",
        "if stored.attempt != attempt or stored.status not in CLAIMABLE:",
        "if stored.status not in CLAIMABLE:",
    ),
)
