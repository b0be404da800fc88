"""A claim is granted although another one's lease is live."""

PATCHES = (
    (
        "empath.testing.memory_ledger",
        """\
        if stored.lease is not None and stored.lease.until > whole_milliseconds(now):
            # A claim""",
        """\
        if stored.lease is not None and False:
            # A claim""",
    ),
)
