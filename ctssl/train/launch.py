"""Starting a team: torchrun with one process a device, on this machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from ctssl.config.study import Pretraining
from ctssl.errors import CtsslError
from ctssl.jobs.supervise import die_with_parent
from ctssl.log import TERMINAL, terminal_path
from ctssl.train.device import claim_several


def train_together(job: Path, machine: Pretraining) -> None:
    """Nothing, when the team has finished the job; SIGTERM is passed on, and the team checkpoints.

    Args:
        job: the job's file.
        machine: device, and how many.

    Raises:
        CtsslError: a process failed; the log says why.
        SystemExit: SIGTERM came.
        ConfigError: there are fewer devices.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=0"]
    command += [f"--nproc-per-node={machine.devices}", "-m", "ctssl.train", str(job)]
    with claim_several(machine.device, machine.devices) as told:
        environment = {**os.environ, **told, TERMINAL: terminal_path()}
        environment.setdefault("OMP_NUM_THREADS", str(machine.threads))
        team = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
        stopped = []

        def stop(number: int, frame: FrameType | None) -> None:
            stopped.append(number)
            team.send_signal(number)

        before = signal.signal(signal.SIGTERM, stop)
        try:
            code = team.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    if stopped and code:  # a team that ended all the same has written its weights
        raise SystemExit(128 + signal.SIGTERM)
    if code:
        raise CtsslError(
            f"a process of the training ended with code {code}: the lines above say why",
            "mend that; the training goes on from its last checkpoint",
        )
