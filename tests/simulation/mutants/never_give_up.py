"""Waiting never ends: neither expiry nor the number of attempts counts."""

PATCHES = (
    (
        "empath.domain.retry",
        """\
        if attempt >= self.max_attempts or now >= expires:
            return None
        return min(now + self.delay(attempt, random, hint=hint, is_new=is_new), expires)""",
        """\
        return now + self.delay(attempt, random)""",
    ),
)
