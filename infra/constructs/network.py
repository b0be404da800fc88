"""Where the ingress stands: a VPC of its own over two zones, or the deployment's.

S3 and DynamoDB, where the octets go, are reached through gateway endpoints, which cost nothing. SQS, the
registry of images, the log and secrets are reached through a NAT gateway in each zone, or, without any, from
public subnets by addresses of the tasks' own, which the security group opens to nobody. Interface endpoints
for the four would cost as much as the gateways, and the functions cannot reach port 25 through them.
"""

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from infra.ingress_settings import listed
from infra.settings import Settings

ZONES = 2

_ENDPOINTS = {
    "S3": ec2.GatewayVpcEndpointAwsService.S3,
    "DynamoDB": ec2.GatewayVpcEndpointAwsService.DYNAMODB,
}


class Network(Construct):
    """`vpc`, and which of its subnets are for the load balancer and for the tasks."""

    def __init__(self, scope: Construct, id: str, settings: Settings) -> None:
        super().__init__(scope, id)
        self.vpc = self._existing(settings) if settings.vpc_id else self._new(settings)
        public = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)
        private = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS)
        self.task_subnets = public if settings.tasks_have_public_addresses else private
        self.way_out = self.vpc.select_subnets(
            subnet_type=self.task_subnets.subnet_type
        ).internet_connectivity_established
        is_public = settings.ingress_scheme == "internet-facing"
        self.balancer_subnets = public if is_public else self.task_subnets

    def _new(self, settings: Settings) -> ec2.IVpc:
        kinds = {"Public": ec2.SubnetType.PUBLIC}
        if settings.nat_gateways:
            kinds["Private"] = ec2.SubnetType.PRIVATE_WITH_EGRESS
        return ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(settings.vpc_cidr),
            max_azs=ZONES,
            nat_gateways=settings.nat_gateways,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name=name,
                    subnet_type=kind,
                    # Who needs an address asks for one.
                    map_public_ip_on_launch=False if kind is ec2.SubnetType.PUBLIC else None,
                )
                for name, kind in kinds.items()
            ],
            gateway_endpoints={
                name: ec2.GatewayVpcEndpointOptions(service=service) for name, service in _ENDPOINTS.items()
            },
        )

    def _existing(self, settings: Settings) -> ec2.IVpc:
        """By its identifiers, because a look-up would need credentials at synth."""
        tables = listed(settings.vpc_route_tables) or None
        are_public = settings.tasks_have_public_addresses
        vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=settings.vpc_id,
            vpc_cidr_block=settings.vpc_cidrs[0],
            availability_zones=settings.zones,
            public_subnet_ids=listed(settings.vpc_public_subnets) or None,
            private_subnet_ids=listed(settings.vpc_private_subnets) or None,
            public_subnet_route_table_ids=tables if are_public else None,
            private_subnet_route_table_ids=None if are_public else tables,
        )
        # A route table takes one endpoint of a kind: they are made only in those that the deployment names.
        if tables:
            kind = ec2.SubnetType.PUBLIC if are_public else ec2.SubnetType.PRIVATE_WITH_EGRESS
            for name, service in _ENDPOINTS.items():
                ec2.GatewayVpcEndpoint(
                    self, name, vpc=vpc, service=service, subnets=[ec2.SubnetSelection(subnet_type=kind)]
                )
        return vpc
