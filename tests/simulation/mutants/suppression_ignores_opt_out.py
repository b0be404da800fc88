"""The suppression list counts for a tenant that does without it."""

PATCHES = (
    (
        "empath.pipeline.resolve",
        """\
        if not (await self.control.tenant_policy(job.tenant)).suppression.enabled:
            return records
""",
        """\
        await self.control.tenant_policy(job.tenant)
""",
    ),
)
