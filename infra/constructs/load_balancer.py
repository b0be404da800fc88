"""The ingress's address: a network load balancer that hands connections on and tells whose they are.

TLS passes through it: STARTTLS begins in the middle of a session, and on one port as on the other the
certificate is the ingress's own. Clients' addresses come in PROXY headers (version 2) and not as the source
of packets, because only those keep the tasks reachable from the balancer alone.
"""

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from constructs import Construct

from infra.constructs.network import Network
from infra.settings import Settings

# The longest that a session may be silent is 600 s, while its message is stored (RFC 5321 §4.5.3.2.6); the
# balancer's own 350 s would cut it then.
IDLE_TIMEOUT = cdk.Duration.seconds(900)

# A task that goes gets no new connections for this long before it is told to end: time for sessions to end
# by themselves. ECS waits for it before SIGTERM.
DRAINING = cdk.Duration.seconds(60)

# Sessions on a task that is not ready go on for this long: they hear 451 and are not cut off.
UNHEALTHY_DRAINING = cdk.Duration.minutes(10)

HEALTH_PORT = 8025


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the load balancer, and the one that the container listens on without being root."""

    name: str
    number: int
    container: int


RELAY = Port("Relay", 25, 2525)
SUBMISSION = Port("Submission", 587, 2587)
SUBMISSIONS = Port("Submissions", 465, 2465)


def ports_of(settings: Settings) -> list[Port]:
    """Submission needs AUTH, AUTH needs TLS, and TLS needs a certificate."""
    return [RELAY, SUBMISSION, SUBMISSIONS] if settings.tls_secret else [RELAY]


class LoadBalancer(Construct):
    """A listener and a group of targets per port; the service registers its tasks in `targets`."""

    def __init__(self, scope: Construct, id: str, settings: Settings, network: Network) -> None:
        super().__init__(scope, id)
        self.security_group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=network.vpc,
            description="Empath: who may connect to the ingress",
            allow_all_outbound=False,
        )
        self.balancer = elb.NetworkLoadBalancer(
            self,
            "Balancer",
            vpc=network.vpc,
            vpc_subnets=network.balancer_subnets,
            internet_facing=settings.ingress_scheme == "internet-facing",
            # Two tasks are in two zones, but DNS spreads clients as it likes.
            cross_zone_enabled=True,
            security_groups=[self.security_group],
        )
        self.targets = {port: self._forward(port, network, settings) for port in ports_of(settings)}

    def _forward(self, port: Port, network: Network, settings: Settings) -> elb.NetworkTargetGroup:
        for client in settings.clients:
            self.security_group.add_ingress_rule(
                ec2.Peer.ipv4(client), ec2.Port.tcp(port.number), f"{port.name} from {client}"
            )
        group = elb.NetworkTargetGroup(
            self,
            f"{port.name}Targets",
            vpc=network.vpc,
            port=port.container,
            protocol=elb.Protocol.TCP,
            target_type=elb.TargetType.IP,
            proxy_protocol_v2=True,
            preserve_client_ip=False,
            deregistration_delay=DRAINING,
            # The header comes before health checks, too (AWS: "Health check connections").
            health_check=elb.HealthCheck(
                protocol=elb.Protocol.HTTP,
                port=str(HEALTH_PORT),
                path="/health/ready",
                healthy_http_codes="200",
                interval=cdk.Duration.seconds(10),
                timeout=cdk.Duration.seconds(6),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
        )
        group.set_attribute("target_health_state.unhealthy.connection_termination.enabled", "false")
        group.set_attribute(
            "target_health_state.unhealthy.draining_interval_seconds", str(UNHEALTHY_DRAINING.to_seconds())
        )
        elb.NetworkListener(
            self,
            f"{port.name}Listener",
            load_balancer=self.balancer,
            port=port.number,
            protocol=elb.Protocol.TCP,
            tcp_idle_timeout=IDLE_TIMEOUT,
            default_target_groups=[group],
        )
        return group
