"""The ledger takes a record from whoever brings it, whoever holds the lease."""

PATCHES = (
    (
        "empath.testing.memory_ledger",
        """\
stored.lease is None or stored.lease.owner != owner:
            raise LeaseLost""",
        """\
False:
            raise LeaseLost""",
    ),
)
