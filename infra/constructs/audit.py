"""The audit trail: a bucket that keeps every version of what was ever written to it."""

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.settings import Settings


class Audit(Construct):
    """Blocks of audit lines. Versioned, so that nothing written over is lost; under object lock if chosen."""

    def __init__(self, scope: Construct, id: str, settings: Settings) -> None:
        super().__init__(scope, id)
        days = cdk.Duration.days(settings.audit_lock_days)
        locks = {
            "governance": s3.ObjectLockRetention.governance,
            "compliance": s3.ObjectLockRetention.compliance,
        }
        self.bucket = s3.Bucket(
            self,
            "Trail",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            object_lock_enabled=True if settings.audit_lock_days else None,
            object_lock_default_retention=(
                locks[settings.audit_lock_mode](days) if settings.audit_lock_days else None
            ),
            removal_policy=cdk.RemovalPolicy.RETAIN if settings.keeps_data else cdk.RemovalPolicy.DESTROY,
        )
