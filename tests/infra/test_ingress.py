"""Where mail comes in: who may connect, what the tasks may do, and that none is missed when it goes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from empath.config.ingress import IngressConfig
from infra.constructs.ingress_service import SHUTDOWN_DELAY_S, SHUTDOWN_GRACE_S
from infra.ingress_settings import LIMITS
from tests.infra.conftest import EXISTING_VPC, TLS_SECRET, Synthesised

ANYBODY = "0.0.0.0/0"
RELAY = {25: 2525}
ALL_PORTS = {25: 2525, 587: 2587, 465: 2465}
HEALTH = 8025

ENVIRONMENT = {
    "EMPATH_ACCEPTED_QUEUE_URL",
    "EMPATH_CONTROL_TABLE",
    "EMPATH_HEALTH_HOST",
    "EMPATH_HEALTH_PORT",
    "EMPATH_HOSTNAME",
    "EMPATH_LOG_LEVEL",
    "EMPATH_PROCESSES",
    "EMPATH_PROXY_NETWORKS",
    "EMPATH_RELAY_DOMAINS",
    "EMPATH_RELAY_NETWORKS",
    "EMPATH_SHUTDOWN_DELAY",
    "EMPATH_SHUTDOWN_GRACE",
    "EMPATH_SMTP_HOST",
    "EMPATH_SMTP_PORT",
    "EMPATH_SPOOL_BUCKET",
    "EMPATH_TRACING",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_SERVICE_NAME",
}
FOR_SUBMISSION = {
    "EMPATH_MAX_CONNECTIONS_PER_CLIENT",
    "EMPATH_SUBMISSION_PORT",
    "EMPATH_SUBMISSIONS_PORT",
    "EMPATH_TLS_SECRET",
    "EMPATH_USER_MESSAGES_PER_HOUR",
}


def test_the_local_stack_has_no_ingress_stack(local: Synthesised) -> None:
    assert local.ingress == {}


# The network.


def test_a_new_vpc_survives_the_loss_of_a_zone(aws: Synthesised) -> None:
    subnets = aws.of_ingress("AWS::EC2::Subnet").values()
    assert len(subnets) == 4
    assert len({json.dumps(subnet["AvailabilityZone"]) for subnet in subnets}) == 2
    assert len(aws.of_ingress("AWS::EC2::NatGateway")) == 2
    assert not [subnet for subnet in subnets if subnet["MapPublicIpOnLaunch"]]


def test_content_and_state_never_pass_a_nat_gateway(aws: Synthesised, submission: Synthesised) -> None:
    for synthesised in (aws, submission):
        tables = {json.dumps({"Ref": name}) for name in synthesised.of_ingress("AWS::EC2::RouteTable")}
        endpoints = synthesised.of_ingress("AWS::EC2::VPCEndpoint").values()
        assert {_text(endpoint["ServiceName"]).rpartition(".")[2] for endpoint in endpoints} == {
            "s3",
            "dynamodb",
        }
        for endpoint in endpoints:
            assert endpoint["VpcEndpointType"] == "Gateway"
            assert {json.dumps(table) for table in endpoint["RouteTableIds"]} == tables


def test_without_nat_gateways_tasks_have_addresses_that_nobody_may_connect_to(
    aws: Synthesised, submission: Synthesised
) -> None:
    assert submission.of_ingress("AWS::EC2::NatGateway") == {}
    assert _service_network(submission)["AssignPublicIp"] == "ENABLED"
    assert _service_network(aws)["AssignPublicIp"] == "DISABLED"
    for synthesised in (aws, submission):
        tasks, _ = _security_groups(synthesised)
        assert "SecurityGroupIngress" not in synthesised.of_ingress("AWS::EC2::SecurityGroup")[tasks]


def test_an_existing_vpc_is_used_as_it_is(existing: Synthesised) -> None:
    made = {resource["Type"] for resource in existing.ingress["Resources"].values()}
    assert not [kind for kind in made if kind.startswith("AWS::EC2::") and "SecurityGroup" not in kind]
    subnets = [part.strip() for part in EXISTING_VPC["vpc_private_subnets"].split(",")]
    assert _service_network(existing)["Subnets"] == subnets
    (balancer,) = existing.of_ingress("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    assert balancer["Subnets"] == subnets
    assert {g["VpcId"] for g in existing.of_ingress("AWS::EC2::SecurityGroup").values()} == {
        EXISTING_VPC["vpc_id"]
    }


# The load balancer.


def test_each_port_goes_to_an_unprivileged_one(aws: Synthesised, submission: Synthesised) -> None:
    assert _forwarded(aws) == RELAY
    assert _forwarded(submission) == ALL_PORTS


def test_the_scheme_is_a_choice(aws: Synthesised, submission: Synthesised) -> None:
    (inside,) = aws.of_ingress("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    (outside,) = submission.of_ingress("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    assert (inside["Scheme"], outside["Scheme"]) == ("internal", "internet-facing")
    for balancer in (inside, outside):
        assert balancer["Type"] == "network"
        assert _pairs(balancer["LoadBalancerAttributes"])["load_balancing.cross_zone.enabled"] == "true"


def test_a_silent_session_is_not_cut_by_the_load_balancer(submission: Synthesised) -> None:
    """The longest silence is a client's wait after its final dot: 600 s (RFC 5321 §4.5.3.2.6)."""
    listeners = submission.of_ingress("AWS::ElasticLoadBalancingV2::Listener").values()
    assert len(listeners) == 3
    for listener in listeners:
        assert listener["Protocol"] == "TCP"
        assert int(_pairs(listener["ListenerAttributes"])["tcp.idle_timeout.seconds"]) >= 900


def test_clients_are_told_by_proxy_headers_that_only_the_vpc_may_send(
    aws: Synthesised, existing: Synthesised
) -> None:
    for synthesised, vpc in ((aws, "10.25.0.0/16"), (existing, "10.1.0.0/16,10.2.0.0/16")):
        for group in _target_groups(synthesised):
            attributes = _pairs(group["TargetGroupAttributes"])
            assert attributes["proxy_protocol_v2.enabled"] == "true"
            # With addresses kept, packets would come from clients, and tasks would have to admit them all.
            assert attributes["preserve_client_ip.enabled"] == "false"
        assert _environment(synthesised)["EMPATH_PROXY_NETWORKS"] == vpc


def test_a_task_gets_connections_when_it_is_ready_and_keeps_those_it_has(submission: Synthesised) -> None:
    for group in _target_groups(submission):
        assert group["TargetType"] == "ip"
        assert (group["HealthCheckProtocol"], group["HealthCheckPort"]) == ("HTTP", str(HEALTH))
        assert group["HealthCheckPath"] == "/health/ready"
        attributes = _pairs(group["TargetGroupAttributes"])
        assert attributes["target_health_state.unhealthy.connection_termination.enabled"] == "false"
        assert int(attributes["target_health_state.unhealthy.draining_interval_seconds"]) >= 600


# Who may connect.


@pytest.mark.parametrize(
    ("profile", "clients"),
    [
        ("aws", {"10.25.0.0/16"}),
        ("submission", {ANYBODY}),
        ("existing", {"10.1.0.0/16", "10.2.0.0/16"}),
    ],
)
def test_the_load_balancer_admits_the_named_clients_to_smtp_only(
    profile: str, clients: set[str], request: pytest.FixtureRequest
) -> None:
    synthesised: Synthesised = request.getfixturevalue(profile)
    _, balancer = _security_groups(synthesised)
    rules = synthesised.of_ingress("AWS::EC2::SecurityGroup")[balancer]["SecurityGroupIngress"]
    assert {(rule["CidrIp"], rule["FromPort"], rule["ToPort"]) for rule in rules} == {
        (client, port, port) for client in clients for port in _forwarded(synthesised)
    }


@pytest.mark.parametrize("profile", ["aws", "submission", "existing"])
def test_tasks_admit_the_load_balancer_only(profile: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(profile)
    tasks, balancer = _security_groups(synthesised)
    ports = {*_forwarded(synthesised).values(), HEALTH}
    inward = synthesised.of_ingress("AWS::EC2::SecurityGroupIngress").values()
    assert {_rule(rule, "GroupId", "SourceSecurityGroupId") for rule in inward} == {
        (tasks, balancer, port) for port in ports
    }
    outward = synthesised.of_ingress("AWS::EC2::SecurityGroupEgress").values()
    assert {_rule(rule, "GroupId", "DestinationSecurityGroupId") for rule in outward} == {
        (balancer, tasks, port) for port in ports
    }


@pytest.mark.parametrize("profile", ["aws", "submission", "existing"])
def test_a_task_reaches_https_and_nothing_else(profile: str, request: pytest.FixtureRequest) -> None:
    """Whoever takes one over sends no mail from it."""
    synthesised: Synthesised = request.getfixturevalue(profile)
    tasks, _ = _security_groups(synthesised)
    (rule,) = synthesised.of_ingress("AWS::EC2::SecurityGroup")[tasks]["SecurityGroupEgress"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)


# What the tasks may do.


def test_a_task_does_on_aws_only_what_a_250_and_its_readiness_need(aws: Synthesised) -> None:
    assert _granted(aws, "TaskRoleArn") == {
        "s3:PutObject": "SpoolMessages",
        "s3:AbortMultipartUpload": "SpoolMessages",
        "sqs:SendMessage": "Queuesaccepted",
        "sqs:GetQueueAttributes": "Queuesaccepted",
        "dynamodb:GetItem": "LedgerControl",
        "dynamodb:UpdateItem": "LedgerControl",
    }


def test_with_tls_it_may_read_its_certificate_too(aws: Synthesised, submission: Synthesised) -> None:
    before, after = (_granted(each, "TaskRoleArn") for each in (aws, submission))
    assert after.keys() - before.keys() == {"secretsmanager:GetSecretValue"}
    (statement,) = (s for s in _statements(submission, "TaskRoleArn") if "secretsmanager" in json.dumps(s))
    assert statement["Resource"] == TLS_SECRET


def test_of_the_control_table_it_reads_users_and_counts_quotas(aws: Synthesised) -> None:
    keys = {
        statement["Action"]: statement["Condition"]
        for statement in _statements(aws, "TaskRoleArn")
        if "dynamodb" in json.dumps(statement["Action"])
    }
    assert keys == {
        "dynamodb:GetItem": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["user#*"]}},
        "dynamodb:UpdateItem": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["quota#*"]}},
    }


def test_ecs_itself_may_fetch_the_image_and_write_the_log(aws: Synthesised) -> None:
    assert _granted(aws, "ExecutionRoleArn").keys() == {
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetAuthorizationToken",
        "ecr:GetDownloadUrlForLayer",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }


def test_no_role_is_wider_than_it_is_written(submission: Synthesised) -> None:
    for role in submission.of_ingress("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    for policy in submission.of_ingress("AWS::IAM::Policy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            assert not [action for action in _list(statement["Action"]) if "*" in action]


# The tasks.


def test_the_container_is_locked_down(aws: Synthesised) -> None:
    container = _container(aws)
    assert container["ReadonlyRootFilesystem"] is True
    assert container["Privileged"] is False
    assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    # Who it runs as is the image's business (test_container): a number that is not root's.
    assert "User" not in container
    (service,) = aws.of_ingress("AWS::ECS::Service").values()
    assert service["EnableExecuteCommand"] is False
    (task,) = aws.of_ingress("AWS::ECS::TaskDefinition").values()
    assert "Volumes" not in task


@pytest.mark.parametrize(("profile", "extra"), [("aws", set()), ("submission", FOR_SUBMISSION)])
def test_the_container_knows_its_surroundings(
    profile: str, extra: set[str], request: pytest.FixtureRequest
) -> None:
    assert set(_environment(request.getfixturevalue(profile))) == ENVIRONMENT | extra


@pytest.mark.parametrize("profile", ["aws", "submission", "existing"])
def test_the_ingress_can_start_with_what_it_is_told(profile: str, request: pytest.FixtureRequest) -> None:
    told = {
        name: value if isinstance(value, str) else "https://sqs.example/0/name"
        for name, value in _environment(request.getfixturevalue(profile)).items()
    }
    config = IngressConfig.from_environment(told)
    settings = config.listener()
    assert settings.port == 2525
    assert [str(network) for network in settings.proxy_networks] == told["EMPATH_PROXY_NETWORKS"].split(",")
    known = {str(field.validation_alias) for field in IngressConfig.model_fields.values()}
    assert {name for name in told if name.startswith("EMPATH_")} <= known


def test_limits_are_passed_on_only_where_the_deployment_sets_them(submission: Synthesised) -> None:
    environment = _environment(submission)
    assert environment["EMPATH_MAX_CONNECTIONS_PER_CLIENT"] == "1000"
    assert environment["EMPATH_USER_MESSAGES_PER_HOUR"] == "500"
    known = {str(field.validation_alias) for field in IngressConfig.model_fields.values()}
    assert {f"EMPATH_{name.upper()}" for name in LIMITS} <= known


def test_the_container_listens_where_the_load_balancer_looks_for_it(submission: Synthesised) -> None:
    environment = _environment(submission)
    numbers = {
        25: environment["EMPATH_SMTP_PORT"],
        587: environment["EMPATH_SUBMISSION_PORT"],
        465: environment["EMPATH_SUBMISSIONS_PORT"],
    }
    assert {port: int(number) for port, number in numbers.items()} == ALL_PORTS
    assert int(environment["EMPATH_HEALTH_PORT"]) == HEALTH
    assert environment["EMPATH_SMTP_HOST"] == environment["EMPATH_HEALTH_HOST"] == "0.0.0.0"
    (service,) = submission.of_ingress("AWS::ECS::Service").values()
    mapped = {entry["ContainerPort"] for entry in _container(submission)["PortMappings"]}
    assert {entry["ContainerPort"] for entry in service["LoadBalancers"]} == mapped
    assert mapped == set(ALL_PORTS.values())


def test_who_may_relay_is_told_to_the_container(aws: Synthesised, submission: Synthesised) -> None:
    assert _environment(aws)["EMPATH_RELAY_NETWORKS"] == "10.25.0.0/16"
    assert _environment(aws)["EMPATH_RELAY_DOMAINS"] == ""
    assert _environment(submission)["EMPATH_RELAY_NETWORKS"] == ""
    assert _environment(submission)["EMPATH_RELAY_DOMAINS"] == "example.com,.example.org"
    assert _environment(submission)["EMPATH_TLS_SECRET"] == TLS_SECRET


def test_the_image_is_for_the_machines_that_it_runs_on(aws: Synthesised, submission: Synthesised) -> None:
    for synthesised, architecture, platform in (
        (aws, "ARM64", "linux/arm64"),
        (submission, "X86_64", "linux/amd64"),
    ):
        (task,) = synthesised.of_ingress("AWS::ECS::TaskDefinition").values()
        assert task["RuntimePlatform"] == {
            "CpuArchitecture": architecture,
            "OperatingSystemFamily": "LINUX",
        }
        assert (task["Cpu"], task["Memory"]) == ("256", "1024")
        assets = json.loads((synthesised.outdir / "EmpathIngress.assets.json").read_text())
        (image,) = assets["dockerImages"].values()
        assert image["source"]["platform"] == platform
        assert image["source"]["dockerFile"] == "functions/ingress/Dockerfile"
        assert image["source"]["dockerBuildArgs"] == {"PYTHON": synthesised.settings.python_version}


def test_a_task_that_goes_has_time_to_finish(aws: Synthesised) -> None:
    """ECS takes it from the load balancer, waits, sends SIGTERM, waits again, and kills."""
    container = _container(aws)
    assert container["StopTimeout"] == 120
    environment = _environment(aws)
    assert environment["EMPATH_SHUTDOWN_GRACE"] == str(SHUTDOWN_GRACE_S)
    assert environment["EMPATH_SHUTDOWN_DELAY"] == str(SHUTDOWN_DELAY_S)
    # With room for 421 to be read and for the counters to be written.
    assert container["StopTimeout"] >= SHUTDOWN_GRACE_S + SHUTDOWN_DELAY_S + 10
    for group in _target_groups(aws):
        assert _pairs(group["TargetGroupAttributes"])["deregistration_delay.timeout_seconds"] == "60"


def test_a_deployment_never_takes_the_last_good_task(aws: Synthesised) -> None:
    (service,) = aws.of_ingress("AWS::ECS::Service").values()
    deployment = service["DeploymentConfiguration"]
    assert deployment["MinimumHealthyPercent"] == 100
    assert deployment["MaximumPercent"] == 200
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert service["AvailabilityZoneRebalancing"] == "ENABLED"
    assert service["LaunchType"] == "FARGATE"


def test_the_number_of_tasks_follows_the_cpu_and_no_deployment_resets_it(aws: Synthesised) -> None:
    (service,) = aws.of_ingress("AWS::ECS::Service").values()
    assert "DesiredCount" not in service
    (target,) = aws.of_ingress("AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 10)
    (policy,) = aws.of_ingress("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 60
    assert tracking["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "ECSServiceAverageCPUUtilization"
    }


def test_a_slow_log_costs_lines_and_not_mail(aws: Synthesised) -> None:
    options = _container(aws)["LogConfiguration"]["Options"]
    assert options["mode"] == "non-blocking"
    (name, group), *rest = aws.of_ingress("AWS::Logs::LogGroup").items()
    assert not rest
    assert options["awslogs-group"] == {"Ref": name}
    assert group["RetentionInDays"] == 30


def test_the_output_names_the_address_for_clients(aws: Synthesised) -> None:
    assert "SmtpEndpoint" in aws.ingress["Outputs"]


def _service_network(synthesised: Synthesised) -> Mapping[str, Any]:
    (service,) = synthesised.of_ingress("AWS::ECS::Service").values()
    found: Mapping[str, Any] = service["NetworkConfiguration"]["AwsvpcConfiguration"]
    return found


def _security_groups(synthesised: Synthesised) -> tuple[str, str]:
    """The logical ids of the tasks' group and of the load balancer's."""
    (task_group,) = _service_network(synthesised)["SecurityGroups"]
    (balancer,) = synthesised.of_ingress("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    (balancer_group,) = balancer["SecurityGroups"]
    return task_group["Fn::GetAtt"][0], balancer_group["Fn::GetAtt"][0]


def _rule(rule: Mapping[str, Any], of: str, other: str) -> tuple[str, str, int]:
    assert rule["IpProtocol"] == "tcp"
    assert rule["FromPort"] == rule["ToPort"]
    return rule[of]["Fn::GetAtt"][0], rule[other]["Fn::GetAtt"][0], rule["FromPort"]


def _target_groups(synthesised: Synthesised) -> list[Mapping[str, Any]]:
    return list(synthesised.of_ingress("AWS::ElasticLoadBalancingV2::TargetGroup").values())


def _forwarded(synthesised: Synthesised) -> dict[int, int]:
    """Ports of the load balancer, and where each goes."""
    groups = synthesised.of_ingress("AWS::ElasticLoadBalancingV2::TargetGroup")
    forwarded = {}
    for listener in synthesised.of_ingress("AWS::ElasticLoadBalancingV2::Listener").values():
        (action,) = listener["DefaultActions"]
        forwarded[listener["Port"]] = groups[action["TargetGroupArn"]["Ref"]]["Port"]
    return forwarded


def _container(synthesised: Synthesised) -> Mapping[str, Any]:
    (task,) = synthesised.of_ingress("AWS::ECS::TaskDefinition").values()
    (container,) = task["ContainerDefinitions"]
    found: Mapping[str, Any] = container
    return found


def _environment(synthesised: Synthesised) -> dict[str, Any]:
    return {entry["Name"]: entry["Value"] for entry in _container(synthesised)["Environment"]}


def _statements(synthesised: Synthesised, role: str) -> Iterator[Mapping[str, Any]]:
    (task,) = synthesised.of_ingress("AWS::ECS::TaskDefinition").values()
    name = task[role]["Fn::GetAtt"][0]
    for policy in synthesised.of_ingress("AWS::IAM::Policy").values():
        if {"Ref": name} in policy["Roles"]:
            yield from policy["PolicyDocument"]["Statement"]


def _granted(synthesised: Synthesised, role: str) -> dict[str, str]:
    """Each action, and a word that its resource's name begins with."""
    return {
        action: next((word for word in RESOURCES if word in json.dumps(statement["Resource"])), "")
        for statement in _statements(synthesised, role)
        for action in _list(statement["Action"])
    }


RESOURCES = ("SpoolMessages", "Queuesaccepted", "LedgerControl")


def _pairs(attributes: list[Mapping[str, str]]) -> dict[str, str]:
    return {entry["Key"]: entry["Value"] for entry in attributes}


def _text(value: Mapping[str, Any]) -> str:
    return "".join(part if isinstance(part, str) else "" for part in value["Fn::Join"][1])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
