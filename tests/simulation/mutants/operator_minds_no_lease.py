"""An operator changes what a worker has."""

PATCHES = (
    (
        "empath.pipeline.operating",
        "if before.lease is not None and before.lease.until > now - SKEW:",
        "if before is None:",
    ),
    (
        "empath.testing.memory_ledger",
        """\
            return False
        if stored.lease is not None and stored.lease.until > whole_milliseconds(now):
            return False
        self._put_delivery(_outcome(stored, record, owes).model_copy(""",
        """\
            return False
        self._put_delivery(_outcome(stored, record, owes).model_copy(""",
    ),
)
