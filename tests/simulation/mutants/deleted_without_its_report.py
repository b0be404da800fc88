"""What an operator deletes owes no report, although its sender is to hear of it."""

PATCHES = (
    (
        "empath.pipeline.operating",
        "return _Decision(record, concluded.owes)",
        'return _Decision(record.model_copy(update={"reports": before.reports}))',
    ),
)
