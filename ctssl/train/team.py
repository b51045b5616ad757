"""The processes that train one run together: torchrun starts them, one a device; alone, a team of one.

All of them do the same steps in the same order. What they exchange is exact up to the order of sums.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from ctssl import log


@dataclass(frozen=True)
class Team:
    """Which of how many processes this is.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and says things."""
        return self.rank == 0

    def say(self, message: str) -> None:
        """Write a line to the log, once for all processes."""
        if self.leads:
            log.say(message)

    def tell(self, message: str) -> None:
        """Write a line to the log and to the terminal, once for all processes."""
        if self.leads:
            log.tell(message)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over the processes; the tensor itself when alone."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def gathered(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """(sum of counts, ...): the rows of all processes, rank by rank.

        Args:
            rows: (counts[rank], ...) of this process.
            counts: rows of each process.
        """
        if self.size == 1:
            return rows
        most = max(counts)
        padded = rows.new_zeros((most, *rows.shape[1:]))
        padded[: len(rows)] = rows
        everyone = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(everyone, padded)
        return torch.cat([part[:count] for part, count in zip(everyone, counts, strict=True)])

    def first(self, words: list[str], *, everyone: bool) -> list[str]:
        """The words of the first process; `everyone`: all have the same ones, so nothing is exchanged."""
        if self.size == 1 or everyone:
            return words
        box = [words]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Nothing; every gradient becomes the sum over the processes, in one exchange."""
        if self.size == 1:
            return
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:  # a process without samples in this step
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it is so in any process."""
        return bool(self.summed(torch.tensor([float(here)], device=device))) if self.size > 1 else here

    def wait(self) -> None:
        """Nothing, once all processes came here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def gather_team(device: torch.device) -> Iterator[Team]:
    """The team that torchrun started, or a team of one.

    Args:
        device: of this process; cuda teams talk by NCCL, others by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
