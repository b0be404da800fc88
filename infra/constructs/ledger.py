"""The ledger of deliveries, and the control table beside it."""

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from infra.settings import Settings

LISTING_INDEX = "listing"
# What the lists of an operator show and the retry clock decides on, without a read of the whole item.
LISTED = ["next_attempt_at", "job_at", "attempt", "status", "reason", "domain", "priority", "tenant"]


class Ledger(Construct):
    """`deliveries`: a message and its deliveries under one key. `control`: policies, gates, caches."""

    def __init__(self, scope: Construct, id: str, settings: Settings) -> None:
        super().__init__(scope, id)
        self.deliveries = self._table(
            "Deliveries",
            settings,
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
        )
        # Sparse: only deliveries that wait, or ended badly, carry its key `<status>#<shard>`.
        self.deliveries.add_global_secondary_index(
            index_name=LISTING_INDEX,
            partition_key=dynamodb.Attribute(name="listing", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="at", type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=LISTED,
        )
        self.control = self._table("Control", settings)

    def _table(
        self,
        id: str,
        settings: Settings,
        sort_key: dynamodb.Attribute | None = None,
        stream: dynamodb.StreamViewType | None = None,
    ) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            id,
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=sort_key,
            stream=stream,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            time_to_live_attribute="expires_at",
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=settings.point_in_time_recovery
            ),
            removal_policy=cdk.RemovalPolicy.RETAIN if settings.keeps_data else cdk.RemovalPolicy.DESTROY,
        )
