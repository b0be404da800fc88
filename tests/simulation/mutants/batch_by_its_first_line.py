"""A batch of the audit trail is known by its first line: a half of it counts as the whole."""

PATCHES = (
    (
        "empath.pipeline.audit_trail",
        '"\\n".join(record.id for record in records)',
        "records[0].id",
    ),
)
