"""The ingress as an ECS service on Fargate, behind its load balancer and over two zones.

A task can be lost at any moment: what it had answered with 250 is in S3 and SQS. What is arranged here is
that nobody notices: no task goes before its successor takes mail, and one that goes gets time to finish.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.constructs.load_balancer import HEALTH_PORT, LoadBalancer
from infra.constructs.log_group import log_group
from infra.constructs.network import Network
from infra.packaging import ROOT
from infra.settings import Settings

DOCKERFILE = Path("functions/ingress/Dockerfile")
CONTAINER = "ingress"

# Fargate's longest. After SIGTERM sessions in a transaction get SHUTDOWN_GRACE, then 421; what is left is for
# the last replies. No delay before it: the load balancer stopped sending connections DRAINING ago.
STOP_TIMEOUT = cdk.Duration.seconds(120)
SHUTDOWN_GRACE_S = 100
SHUTDOWN_DELAY_S = 0

# Below full, so that there is room while another task starts, which takes about a minute.
CPU_TARGET_PERCENT = 60

# Time for a first task to start before health checks count against it.
START_GRACE = cdk.Duration.seconds(60)

# Lines that wait when CloudWatch Logs is slow. Then lines are lost, where otherwise mail would wait.
LOG_BUFFER = cdk.Size.mebibytes(4)

HEALTH_COMMAND = [
    "python",
    "-c",
    f"import urllib.request as r; r.urlopen('http://127.0.0.1:{HEALTH_PORT}/health/live', timeout=3)",
]

_ARCHITECTURE = {
    "arm64": (ecs.CpuArchitecture.ARM64, ecr_assets.Platform.LINUX_ARM64),
    "x86_64": (ecs.CpuArchitecture.X86_64, ecr_assets.Platform.LINUX_AMD64),
}


class IngressService(Construct):
    """The tasks, and what they may do: nothing on AWS but what `may` was told."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        settings: Settings,
        *,
        network: Network,
        load_balancer: LoadBalancer,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, id)
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
        container = self._container(settings, environment)
        security_group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=network.vpc,
            description="Empath: tasks of the ingress",
            allow_all_outbound=False,
        )
        # AWS by HTTPS and nothing else: a task that was taken over cannot send mail from here.
        security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS")

        self.service = ecs.FargateService(
            self,
            "Service",
            cluster=ecs.Cluster(self, "Cluster", vpc=network.vpc),
            task_definition=container.task_definition,
            vpc_subnets=network.task_subnets,
            assign_public_ip=settings.tasks_have_public_addresses,
            security_groups=[security_group],
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            health_check_grace_period=START_GRACE,
            enable_execute_command=False,
        )
        # Without a way out a task cannot even fetch its image.
        self.service.node.add_dependency(network.way_out)
        for port, targets in load_balancer.targets.items():
            container.add_port_mappings(
                ecs.PortMapping(name=port.name.lower(), container_port=port.container)
            )
            targets.add_target(
                self.service.load_balancer_target(container_name=CONTAINER, container_port=port.container)
            )
            security_group.connections.allow_from(
                load_balancer.security_group, ec2.Port.tcp(port.container), port.name
            )
        security_group.connections.allow_from(
            load_balancer.security_group, ec2.Port.tcp(HEALTH_PORT), "Health checks"
        )
        self._scale(settings)

    def may(
        self, actions: Sequence[str], resource: str, conditions: Mapping[str, object] | None = None
    ) -> None:
        """Allow exactly these actions on exactly this resource."""
        self.role.add_to_policy(
            iam.PolicyStatement(actions=list(actions), resources=[resource], conditions=conditions)
        )

    def _container(self, settings: Settings, environment: Mapping[str, str]) -> ecs.ContainerDefinition:
        cpu_architecture, platform = _ARCHITECTURE[settings.architecture]
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=settings.ingress_cpu,
            memory_limit_mib=settings.ingress_memory,
            task_role=self.role,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=cpu_architecture, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
        )
        linux = ecs.LinuxParameters(self, "Linux")
        linux.drop_capabilities(ecs.Capability.ALL)
        return task.add_container(
            CONTAINER,
            image=ecs.ContainerImage.from_asset(
                str(ROOT),
                file=str(DOCKERFILE),
                platform=platform,
                build_args={"PYTHON": settings.python_version},
                # The allow-list is .dockerignore's, which CDK reads as Docker does.
                ignore_mode=cdk.IgnoreMode.DOCKER,
            ),
            environment=dict(environment),
            readonly_root_filesystem=True,
            privileged=False,
            linux_parameters=linux,
            stop_timeout=STOP_TIMEOUT,
            health_check=ecs.HealthCheck(
                command=["CMD", *HEALTH_COMMAND],
                interval=cdk.Duration.seconds(30),
                timeout=cdk.Duration.seconds(5),
                retries=3,
                start_period=cdk.Duration.seconds(30),
            ),
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix=CONTAINER,
                log_group=log_group(self, settings),
                mode=ecs.AwsLogDriverMode.NON_BLOCKING,
                max_buffer_size=LOG_BUFFER,
            ),
        )

    def _scale(self, settings: Settings) -> None:
        # The number of tasks is the scaling's alone: in the template, each deployment would reset it.
        scaling = self.service.auto_scale_task_count(
            min_capacity=settings.ingress_min_tasks, max_capacity=settings.ingress_max_tasks
        )
        scaling.scale_on_cpu_utilization(
            "Cpu",
            target_utilization_percent=CPU_TARGET_PERCENT,
            scale_out_cooldown=cdk.Duration.minutes(1),
            # Fewer tasks means that sessions have to move: not after every wave.
            scale_in_cooldown=cdk.Duration.minutes(10),
        )
