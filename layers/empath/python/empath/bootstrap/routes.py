"""The registry of routes: what each kind that a policy may name is made with, and imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from empath.pipeline.routes import RouteTable

if TYPE_CHECKING:
    from empath.bootstrap.ports import Ports
    from empath.pipeline.secret_memory import SecretMemory
    from empath.ports import Route


def route_table(ports: Ports) -> RouteTable:
    """Every route, over the ports of one process."""
    remembered: list[SecretMemory] = []

    async def secrets() -> SecretMemory:
        from empath.pipeline.secret_memory import SecretMemory

        if not remembered:
            await ports.open("secrets")
            remembered.append(SecretMemory(ports.secrets, ports.clock))
        return remembered[0]

    async def mx() -> Route:
        from empath.pipeline.mail_hosts import ToExchangers

        await ports.open("resolver", "dialer")
        return ToExchangers(
            ports.resolver, ports.dialer, ports.ids, ports.hostname, ports.own_addresses, ports.dead_hosts
        )

    async def smarthost() -> Route:
        from empath.pipeline.named_hosts import ToSmarthost

        await ports.open("resolver", "dialer")
        return ToSmarthost(ports.resolver, ports.dialer, ports.ids, await secrets(), ports.dead_hosts)

    async def lmtp() -> Route:
        from empath.pipeline.named_hosts import ToStore

        await ports.open("resolver", "dialer")
        return ToStore(ports.resolver, ports.dialer, ports.ids, ports.dead_hosts)

    async def ses() -> Route:
        from empath.aws.ses_route import ToSes

        return ToSes(ports.ses)

    async def webhook() -> Route:
        from empath.net.webhook import ToWebhook

        await ports.open("resolver")
        return ToWebhook(ports.resolver, await secrets(), ports.clock)

    async def sink() -> Route:
        from empath.pipeline.routes import ToNowhere

        return ToNowhere()

    return RouteTable(
        {"mx": mx, "smarthost": smarthost, "lmtp": lmtp, "ses": ses, "webhook": webhook, "sink": sink}
    )
