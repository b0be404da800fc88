"""The ingress as a process: settings from the environment, a listener until SIGTERM or SIGINT."""

import asyncio
import os
import signal
import sys

from empath.bootstrap.ingress import open_ingress
from empath.config.environment import ConfigError
from empath.config.ingress import IngressConfig
from empath.ingress.listener import ListenError, serve
from empath.ingress.process import new_event_loop

UNUSABLE = 2
"""Exit code: starting again with the same settings will not help."""


async def run(config: IngressConfig) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_ingress(config) as parts:
        listener = await serve(parts.settings, parts.acceptance, parts.clock, parts.ids, parts.metrics)
        await stop.wait()
        await listener.close()


def main() -> int:
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run(IngressConfig.from_environment(os.environ)))
    except (ConfigError, ListenError) as error:
        sys.stderr.write(f"empath ingress: {error}\n")
        return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
