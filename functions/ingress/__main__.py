"""The ingress as a process, or several: settings from the environment, mail until SIGTERM or SIGINT."""

import os
import sys
from functools import partial

from empath.bootstrap.ingress import open_ingress
from empath.config.environment import ConfigError
from empath.config.ingress import IngressConfig
from empath.domain.errors import Trouble
from empath.ingress.listener import ListenError
from empath.ingress.processes import TRY_AGAIN, UNUSABLE, run
from empath.observe.logging import configure

COMMAND = (sys.executable, "-m", "functions.ingress")


def main() -> int:
    try:
        config = IngressConfig.from_environment(os.environ)
        configure("ingress", config.log_level)
        return run(COMMAND, sys.argv[1:], config.process(), config.listener(), partial(open_ingress, config))
    except (ConfigError, ListenError, Trouble) as error:
        sys.stderr.write(f"empath ingress: {error}\n")
        return TRY_AGAIN if isinstance(error, Trouble) else UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
