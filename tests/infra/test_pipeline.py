"""What moves mail: one function per door, what wakes it, and what it may do."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra.settings import FUNCTIONS
from tests.infra.conftest import Synthesised

# Every action of every function, besides reading its own event source, its log group and its traces.
ALLOWED = {
    "resolve": {
        "dynamodb": {"BatchGetItem", "GetItem", "PutItem"},
        "s3": {"DeleteObject"},
        "sqs": {"ChangeMessageVisibility", "SendMessage"},
    },
    "deliver": {
        "dynamodb": {"BatchGetItem", "DeleteItem", "GetItem", "PutItem", "UpdateItem"},
        "s3": {"GetObject", "ListBucket"},
        "sqs": {"ChangeMessageVisibility", "SendMessage"},
    },
    "retry": {
        "dynamodb": {"GetItem", "PutItem", "Query", "UpdateItem"},
        "s3": {"DeleteObject"},
        "sqs": {"DeleteMessage", "ReceiveMessage", "SendMessage"},
    },
    "dsn": {
        "dynamodb": {"GetItem", "UpdateItem"},
        "s3": {"AbortMultipartUpload", "DeleteObject", "GetObject", "ListBucket", "PutObject"},
        "sqs": {"ChangeMessageVisibility", "SendMessage"},
    },
    "journal": {
        "dynamodb": {"GetItem", "PutItem", "Query", "UpdateItem"},
        "s3": {"DeleteObject", "GetObject", "ListBucket", "PutObject"},
        "events": {"PutEvents"},
        # For the failure destination, from CDK.
        "sqs": {"SendMessage", "GetQueueAttributes", "GetQueueUrl"},
    },
}
SOURCE = {
    "sqs": {"DeleteMessage", "GetQueueAttributes", "ReceiveMessage"},
    "stream": {"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"},
}

ENVIRONMENT = {
    "EMPATH_ACCEPTED_QUEUE_URL",
    "EMPATH_CONTROL_TABLE",
    "EMPATH_DELIVERIES_TABLE",
    "EMPATH_DELIVERY_BULK_QUEUE_URL",
    "EMPATH_DELIVERY_HIGH_QUEUE_URL",
    "EMPATH_DELIVERY_QUEUE_URL",
    "EMPATH_DELIVERY_SLOW_QUEUE_URL",
    "EMPATH_DNS_CACHE",
    "EMPATH_DSN_QUEUE_URL",
    "EMPATH_FUNCTION",
    "EMPATH_HOSTNAME",
    "EMPATH_LOG_LEVEL",
    "EMPATH_METRIC_DOMAINS",
    "EMPATH_NAMESERVERS",
    "EMPATH_OWN_ADDRESSES",
    "EMPATH_RETRY_QUEUE_URL",
    "EMPATH_SPOOL_BUCKET",
    "EMPATH_SUPPRESSION",
    "EMPATH_TRACING",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_SERVICE_NAME",
}
EXTRA = {
    "retry": {"EMPATH_DEAD_LETTER_QUEUE_URLS"},
    "journal": {"EMPATH_AUDIT_BUCKET", "EMPATH_EVENT_BUS", "EMPATH_EVENT_TYPES", "EMPATH_REDACT"},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_does_on_aws_only_what_its_stage_needs(aws: Synthesised, name: str) -> None:
    granted: dict[str, set[str]] = {}
    for statement in _statements(aws, name):
        assert statement["Effect"] == "Allow"
        for action in _list(statement["Action"]):
            service, _, verb = action.partition(":")
            granted.setdefault(service, set()).add(verb)
    assert granted.pop("logs") == {"CreateLogStream", "PutLogEvents"}
    source = SOURCE["stream"] if name == "journal" else SOURCE["sqs"] if name != "retry" else set()
    service = "dynamodb" if name == "journal" else "sqs"
    assert granted == ALLOWED[name] | {service: ALLOWED[name][service] | source}


def test_reports_are_counted_where_policy_is_read(aws: Synthesised) -> None:
    tables = {
        json.dumps(resource)
        for statement in _statements(aws, "dsn")
        if "dynamodb:UpdateItem" in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    }
    assert any("Control" in table for table in tables), tables


def test_wildcards_are_named_and_few(aws: Synthesised) -> None:
    for name in FUNCTIONS:
        for statement in _statements(aws, name):
            for action in _list(statement["Action"]):
                assert "*" not in action
            for resource in _list(statement["Resource"]):
                if resource == "*":
                    # The one action that knows no resource.
                    assert _list(statement["Action"]) == ["dynamodb:ListStreams"]
                elif "*" in json.dumps(resource):
                    # Any object of the spool; object names are random.
                    assert all(action.startswith("s3:") for action in _list(statement["Action"]))


@pytest.mark.parametrize("name", ["resolve", "deliver"])
def test_dns_answers_are_all_that_a_lookup_puts_into_control(aws: Synthesised, name: str) -> None:
    puts = [
        statement
        for statement in _statements(aws, name)
        if "PutItem" in str(statement["Action"]) and "Control" in json.dumps(statement["Resource"])
    ]
    keys = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["dns#*"]}}
    assert [statement.get("Condition") for statement in puts] == [keys]


def test_tracing_adds_only_the_right_to_send_traces(aws: Synthesised, traced: Synthesised) -> None:
    for name in FUNCTIONS:
        assert traced.function(name)["TracingConfig"] == {"Mode": "Active"}
        assert traced.function(name)["Environment"]["Variables"]["EMPATH_TRACING"] == "on"
        assert "TracingConfig" not in aws.function(name)
        before, after = (
            {action for s in _statements(each, name) for action in _list(s["Action"])}
            for each in (aws, traced)
        )
        assert after - before == {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_knows_its_surroundings(aws: Synthesised, name: str) -> None:
    function = aws.function(name)
    variables = function["Environment"]["Variables"]
    assert set(variables) == ENVIRONMENT | EXTRA.get(name, set())
    assert function["Runtime"] == "python3.13"
    assert function["Architectures"] == ["arm64"]
    assert function["Handler"] == "handler.handler"
    assert len(function["Layers"]) == 2


def test_the_clock_knows_the_dead_letter_queues_by_name(aws: Synthesised) -> None:
    value = aws.function("retry")["Environment"]["Variables"]["EMPATH_DEAD_LETTER_QUEUE_URLS"]
    text = "".join(part if isinstance(part, str) else "URL" for part in value["Fn::Join"][1])
    assert json.loads(text) == dict.fromkeys(
        ("accepted", "delivery", "delivery-high", "delivery-bulk", "delivery-slow", "retry", "dsn"), "URL"
    )


def test_every_mapping_takes_partial_batch_responses(aws: Synthesised) -> None:
    mappings = aws.properties("AWS::Lambda::EventSourceMapping")
    assert len(mappings) == 8
    for mapping in mappings.values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_queues_are_read_ten_jobs_at_a_time_with_bounded_concurrency(aws: Synthesised) -> None:
    settings = aws.settings
    mappings = [
        mapping
        for mapping in aws.properties("AWS::Lambda::EventSourceMapping").values()
        if "StartingPosition" not in mapping
    ]
    assert {mapping["BatchSize"] for mapping in mappings} == {10}
    assert sorted(mapping["ScalingConfig"]["MaximumConcurrency"] for mapping in mappings) == sorted(
        [
            settings.resolve_concurrency,
            settings.deliver_concurrency,
            settings.deliver_high_concurrency,
            settings.deliver_bulk_concurrency,
            settings.deliver_slow_concurrency,
            settings.retry_concurrency,
            settings.dsn_concurrency,
        ]
    )


def test_the_stream_isolates_a_poisonous_record_and_gives_up_visibly(aws: Synthesised) -> None:
    (mapping,) = (
        mapping
        for mapping in aws.properties("AWS::Lambda::EventSourceMapping").values()
        if "StartingPosition" in mapping
    )
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BatchSize"] == 500
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["MaximumRetryAttempts"] == aws.settings.journal_retries
    assert mapping["MaximumBatchingWindowInSeconds"] == aws.settings.journal_gather
    assert "journaldead" in json.dumps(mapping["DestinationConfig"]["OnFailure"])
    (rule,) = mapping["FilterCriteria"]["Filters"]
    assert json.loads(rule["Pattern"]) == {"eventName": ["INSERT", "MODIFY"]}


def test_the_clock_ticks_each_minute_and_never_piles_up(aws: Synthesised) -> None:
    (rule,) = aws.properties("AWS::Events::Rule").values()
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    (config,) = aws.properties("AWS::Lambda::EventInvokeConfig").values()
    assert config["MaximumRetryAttempts"] == 0
    assert config["MaximumEventAgeInSeconds"] == 60


def test_only_deliver_may_go_round(aws: Synthesised) -> None:
    """A deferred delivery passes its function up to 25 times; Lambda would stop it after 16."""
    loops = {name: aws.function(name).get("RecursiveLoop") for name in FUNCTIONS}
    assert loops == {"resolve": None, "deliver": "Allow", "retry": None, "dsn": None, "journal": None}


def test_every_log_group_expires(aws: Synthesised) -> None:
    groups = aws.properties("AWS::Logs::LogGroup")
    assert len(groups) == len(FUNCTIONS)
    assert {group["RetentionInDays"] for group in groups.values()} == {30}
    for name in FUNCTIONS:
        assert aws.function(name)["LoggingConfig"]["LogGroup"]["Ref"] in groups


def _statements(synthesised: Synthesised, name: str) -> Iterator[Mapping[str, Any]]:
    role = synthesised.function(name)["Role"]["Fn::GetAtt"][0]
    assert "ManagedPolicyArns" not in synthesised.properties("AWS::IAM::Role")[role]
    for policy in synthesised.properties("AWS::IAM::Policy").values():
        if {"Ref": role} in policy["Roles"]:
            yield from policy["PolicyDocument"]["Statement"]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
