"""List prices of requests in us-east-1, in USD a million, without free tiers (November 2026)."""

from __future__ import annotations

from collections.abc import Mapping

REQUESTS: Mapping[str, float] = {
    "s3 PUT": 5.00,
    "s3 GET": 0.40,
    "s3 DELETE": 0.0,
    "sqs SendMessage": 0.40,
    "sqs SendMessageBatch": 0.40,
    "sqs ReceiveMessage": 0.40,
    "sqs DeleteMessageBatch": 0.40,
    "sqs ChangeMessageVisibility": 0.40,
    "events PutEvents": 1.00,
}
"""By service and operation; DynamoDB is priced by units instead."""

WRITE_UNIT = 0.625
"""Up to 1 kB (1024 octets) of an item as it is before or after the write, whichever is larger."""

READ_UNIT = 0.125
"""Up to 4 kB, consistent; half a unit when eventual consistency is enough."""

LAMBDA_REQUEST = 0.20
