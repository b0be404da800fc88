"""Resolving again overwrites what became of a delivery meanwhile."""

PATCHES = (
    (
        "empath.testing.memory_ledger",
        """\
            if self._get(delivery.key) is None:
                self._put_delivery(delivery)""",
        """\
            if delivery is not None:
                self._put_delivery(delivery)""",
    ),
)
