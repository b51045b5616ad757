"""Starting a team on this machine: one process a device, told who it is as torchrun would tell it.

Not by torchrun itself, which before torch 2.12 kills its processes 30 s after SIGTERM, whatever they write.
On several nodes torchrun starts `python -m ctssl.train`, which behaves the same.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ctssl.config.runs import Pretraining
from ctssl.errors import CtsslError
from ctssl.jobs.supervise import die_with_parent
from ctssl.log import TERMINAL, terminal_path
from ctssl.train.device import claim_several

WORKER = (sys.executable, "-m", "ctssl.train")
"""What each process runs; the job's file follows."""

STOPPED = 128 + signal.SIGTERM
"""Exit code of a process that wrote its checkpoint after SIGTERM."""

GRACE_S = 10.0
"""From one process's failure to the end of the others."""

LOOK_S = 0.2
"""Pause between two looks whether processes have ended."""


def train_together(job: Path, machine: Pretraining) -> None:
    """Nothing, when the team has finished the job; SIGTERM is passed on, and the team checkpoints.

    It may take as long as it needs for that: who is in a hurry kills this process, and the team dies with it.

    Args:
        job: the job's file.
        machine: device, and how many.

    Raises:
        CtsslError: a process failed; the log says why.
        SystemExit: SIGTERM came.
        ConfigError: there are fewer devices.
    """
    team: list[subprocess.Popen[bytes]] = []
    stopped = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        for process in team:
            process.send_signal(number)

    with claim_several(machine.device, machine.devices) as told:
        environment = {**os.environ, **told, TERMINAL: terminal_path(), **_meeting(machine.devices)}
        environment.setdefault("OMP_NUM_THREADS", str(machine.threads))
        before = signal.signal(signal.SIGTERM, stop)
        try:
            for rank in range(machine.devices):
                if not stopped:
                    who = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                    command = [*WORKER, str(job)]
                    mine = {**environment, **who}
                    team.append(subprocess.Popen(command, env=mine, preexec_fn=die_with_parent))
                    if stopped:  # while this one was started, when `stop` did not know it
                        team[-1].send_signal(signal.SIGTERM)
            code = _ended(team)
        finally:
            for process in team:
                process.kill()
                process.wait()
            signal.signal(signal.SIGTERM, before)
    if stopped and (code or len(team) < machine.devices):  # one that ended all the same has its weights
        raise SystemExit(STOPPED)
    if code:
        raise CtsslError(
            f"a process of the training ended with code {code}: the lines above say why",
            "mend that; the training goes on from its last checkpoint",
        )


def _meeting(processes: int) -> dict[str, str]:
    """Where so many processes of this machine meet, as torch.distributed reads it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    size = str(processes)
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
    }


def _ended(team: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first process that did not end well, once all have ended.

    When one fails, the others would wait for it for ever: they have GRACE_S to say why they fail, too.
    """
    first, end = 0, math.inf
    while True:
        codes = [process.poll() for process in team]
        failed = [code for code in codes if code not in (None, 0, STOPPED)]
        if failed and not first:
            first, end = failed[0] or 0, time.monotonic() + GRACE_S
        if None not in codes or time.monotonic() > end:
            return first or max((code for code in codes if code is not None), default=0)
        time.sleep(LOOK_S)
