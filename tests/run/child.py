"""`ssmrl` with the fakes, in a process that sends itself a signal while it trains.

SSMRL_TEST_SIGNAL=SIGKILL:12 sends SIGKILL once update 12 has been logged.
"""

import os
import signal
import sys

from ssmrl.agents import AGENTS
from ssmrl.cli import main
from ssmrl.envs import registry
from ssmrl.run.logging import MetricsLog
from tests.run.fakes import install

name, update = os.environ["SSMRL_TEST_SIGNAL"].split(":")
write = MetricsLog.write


def write_and_signal(log, row):
    write(log, row)
    if row["update"] == int(update):
        os.kill(os.getpid(), signal.Signals[name])


if __name__ == "__main__":
    install(AGENTS, registry._registered)
    MetricsLog.write = write_and_signal
    sys.exit(main())
