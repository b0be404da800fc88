"""What an operator releases has no time at which it is due."""

PATCHES = (
    (
        "empath.pipeline.operating",
        '"next_attempt_at": due if is_waiting else None',
        '"next_attempt_at": None',
    ),
)
