"""A claim that nobody recorded is not marked by the next one."""

PATCHES = (
    (
        "empath.domain.records",
        'attempt.model_copy(update={"ambiguous": True}) if attempt.duration is None else attempt',
        "attempt",
    ),
)
