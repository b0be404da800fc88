"""The spool: one private bucket that holds every raw message until it is settled."""

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from empath.domain.content_policy import KEEP_DAYS
from infra.settings import Settings


class Spool(Construct):
    """Raw messages. The journal deletes them; the lifecycle removes what a crash left behind, and what was
    kept for tenants, when its time is over."""

    def __init__(self, scope: Construct, id: str, settings: Settings) -> None:
        super().__init__(scope, id)
        self.bucket = s3.Bucket(
            self,
            "Messages",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            removal_policy=cdk.RemovalPolicy.RETAIN if settings.keeps_data else cdk.RemovalPolicy.DESTROY,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="orphans",
                    prefix="messages/",
                    # Safely beyond the expiry of a message: it can never remove mail that is still queued.
                    expiration=cdk.Duration.days(settings.spool_expiry_days),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                ),
                *(
                    s3.LifecycleRule(
                        id=f"kept-{days}", prefix=f"kept/{days}/", expiration=cdk.Duration.days(days)
                    )
                    for days in KEEP_DAYS
                ),
            ],
        )
