"""`python -m ctssl.train JOB.json`: one pretraining, also under torchrun, and without the workflow."""

import os
import sys
from pathlib import Path

from ctssl.errors import CtsslError
from ctssl.jobs.supervise import die_with_parent
from ctssl.log import TERMINAL, speak_to


def main() -> None:
    """Read the job and train; errors are printed without a traceback."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()
    if TERMINAL in os.environ:
        speak_to(os.environ[TERMINAL])
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ctssl.train JOB.json")
    from ctssl.train.host import keep_memory
    from ctssl.train.jobfile import read_job
    from ctssl.train.loop import pretrain

    keep_memory()
    try:
        pretrain(read_job(Path(sys.argv[1])))
    except CtsslError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
