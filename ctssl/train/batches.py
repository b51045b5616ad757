"""What a batch is, and the reading of what it names."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ctssl.store.reader import Store, read_patches
from ctssl.train.random import ALL_LANDMARKS, sample_keys

AHEAD, AHEAD_BYTES = 4, 2**30
"""Batches, and bytes of their patches, that are read at most while one is in use; one batch at least."""

READERS = 2
"""Threads that wait for batches, so that one begins while another ends. tensorstore decodes in its own."""

Asked = TypeVar("Asked")
Got = TypeVar("Got")


@dataclass(frozen=True, eq=False)  # so that what follows from a cohort can be kept: arrays have no hash
class Cohort:
    """What samplers know of the scans.

    Attributes:
        valid: (S, N) bool, which landmarks each scan shows.
        subjects: (S,) number of each scan's subject.
        targets: (S,) float32 what each scan's label asks of a network; None where there are no labels.
    """

    valid: np.ndarray
    subjects: np.ndarray
    targets: np.ndarray | None = None

    @classmethod
    def of(cls, stores: Sequence[Store], subjects: Sequence[str]) -> "Cohort":
        """The cohort of these stores; subjects are numbered by their sorted names."""
        numbers = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)[1]
        return cls(np.stack([s.valid for s in stores]), numbers.astype(np.int64))


@dataclass(frozen=True)
class Sample:
    """What a batch holds, by name: the pairs (scan, landmark), a scan's pairs together.

    The landmark travels with the patch; nobody keeps a current landmark elsewhere.

    Attributes:
        scans: (M,) rows of the cohort.
        landmarks: (M,).
        members: (B,) the scans of the batch in their order.
    """

    scans: np.ndarray
    landmarks: np.ndarray
    members: np.ndarray


@dataclass(frozen=True)
class Pick:
    """Some scans of a batch.

    Attributes:
        rows: (m,) long, their patches; None: all scans in their order.
        scans: (b,) long.
        edges: (E, 2) long among these patches.
        counts: patches of each scan.
        groups: sizes of the batch norm groups.
        host_landmarks: (m,) of these patches.
    """

    rows: Tensor | None
    scans: Tensor
    edges: Tensor
    counts: tuple[int, ...]
    groups: tuple[int, ...]
    host_landmarks: np.ndarray


@dataclass(frozen=True)
class Batch:
    """The values of a sample, patches of one scan together.

    Attributes:
        patches: (M, E, E, E) int16 HU, axes patch, z, y, x.
        landmarks: (M,) long.
        random: (M,) long, where the random numbers of each patch begin (ctssl.train.random), none yet
            before `drawn`.
        subjects: (B,) long, the subject of each scan.
        counts: patches of each of the B scans; they sum to M.
        edges: (E, 2) long, neighbours as numbers 0 to M - 1; none for a batch of one landmark.
        scan_random: (B,) long, where those that a scan's patches share begin.
        groups: scans of each batch norm group, consecutive; they sum to B.
        landmark: that of all patches, known without asking the device; None when there are several. In a
            batch with neighbours (ctssl.train.neighbours) that of each scan's first patch.
        host_landmarks: (M,) the landmarks once more, known without asking the device.
        targets: (B,) float32 of each scan, in supervised training; else none.
    """

    patches: Tensor
    landmarks: Tensor
    random: Tensor
    subjects: Tensor
    counts: tuple[int, ...]
    edges: Tensor
    scan_random: Tensor
    groups: tuple[int, ...]
    landmark: int | None
    host_landmarks: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    targets: Tensor = field(default_factory=lambda: torch.empty(0))

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return with_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The same batch in memory from which copies to a GPU overlap with its work."""
        return with_tensors(self, Tensor.pin_memory)

    def take(self, scans: Sequence[int], groups: tuple[int, ...]) -> "Batch":
        """Some of the scans, in this order, with the edges among their patches.

        Args:
            scans: numbers 0 to B - 1, none twice.
            groups: of the new batch.
        """
        return self.picked(self.pick(scans, groups))

    def pick(self, scans: Sequence[int], groups: tuple[int, ...]) -> "Pick":
        """What `take` of these takes, found on the CPU, where this batch is: a GPU would be waited for."""
        if list(scans) == list(range(len(self.counts))):
            none = torch.empty(0, dtype=torch.long)
            return Pick(None, none, self.edges, self.counts, groups, self.host_landmarks)
        starts = np.cumsum(self.counts) - self.counts
        spans = [np.arange(starts[s], starts[s] + self.counts[s]) for s in scans]
        rows = torch.from_numpy(np.concatenate([*spans, np.empty(0, np.int64)]))
        place = torch.full((len(self.patches),), -1)
        place[rows] = torch.arange(len(rows))
        edges = place[self.edges]
        members = torch.as_tensor(list(scans), dtype=torch.long)
        counts, known = tuple(self.counts[s] for s in scans), self.landmarks.numpy()[rows.numpy()]
        return Pick(rows, members, edges[(edges >= 0).all(1)], counts, groups, known)

    def picked(self, pick: "Pick") -> "Batch":
        """The batch that `pick` found, once both are on one device."""
        if pick.rows is None:
            return replace(self, groups=pick.groups)
        return Batch(
            patches=self.patches[pick.rows],
            landmarks=self.landmarks[pick.rows],
            random=self.random[pick.rows],
            scan_random=self.scan_random[pick.scans],
            subjects=self.subjects[pick.scans],
            counts=pick.counts,
            edges=pick.edges,
            groups=pick.groups,
            landmark=self.landmark,
            host_landmarks=pick.host_landmarks,
            targets=self.targets[pick.scans] if len(self.targets) else self.targets,
        )

    def drawn(self, sample: Sample, seed: int, phase: int, epoch: int) -> "Batch":
        """The same batch with the random numbers of its sample in an epoch of a phase."""
        scans, landmarks, members = map(torch.from_numpy, (sample.scans, sample.landmarks, sample.members))
        everywhere = torch.full_like(members, ALL_LANDMARKS)
        return replace(
            self,
            random=sample_keys(seed, phase, epoch, scans, landmarks),
            scan_random=sample_keys(seed, phase, epoch, members, everywhere),
        )


Tensors = TypeVar("Tensors", Batch, Pick)


def with_tensors(these: Tensors, change: Callable[[Tensor], Tensor]) -> Tensors:
    """The same, each tensor changed."""
    tensors: dict[str, Any] = {n: change(v) for n, v in vars(these).items() if isinstance(v, Tensor)}
    return replace(these, **tensors)


def scan_sample(cohort: Cohort, scans: np.ndarray) -> Sample:
    """All valid patches of these scans."""
    rows, landmarks = np.nonzero(cohort.valid[scans])
    return Sample(scans[rows], landmarks, scans)


def read_batch(stores: Sequence[Store], cohort: Cohort, sample: Sample, *, graph: bool = True) -> Batch:
    """The values of a sample, read from the stores; edges only when `graph`."""
    counts = np.array([int((sample.scans == s).sum()) for s in sample.members], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    edges = [np.empty((0, 2), np.int64)]
    for scan, start in zip(sample.members, starts, strict=True) if graph else ():
        place = np.cumsum(cohort.valid[scan]) - 1 + start  # (N,) landmark -> patch of the batch
        edges.append(place[stores[scan].edges])
    return Batch(
        patches=torch.from_numpy(read_patches(stores, sample.scans, sample.landmarks)),
        landmarks=torch.from_numpy(np.asarray(sample.landmarks, np.int64)),
        random=torch.empty(0, dtype=torch.long),
        scan_random=torch.empty(0, dtype=torch.long),
        subjects=torch.from_numpy(cohort.subjects[sample.members]),
        counts=tuple(counts.tolist()),
        edges=torch.from_numpy(np.concatenate(edges)),
        groups=(len(counts),),
        landmark=int(sample.landmarks[0]) if len(set(sample.landmarks.tolist())) == 1 else None,
        host_landmarks=np.asarray(sample.landmarks, np.int64),
    )


def patch_bytes(stores: Sequence[Store], sample: Sample) -> int:
    """Bytes of a sample's patches in memory."""
    return len(sample.scans) * stores[0].patch_voxels ** 3 * np.dtype(np.int16).itemsize


def prefetched(
    asked: Iterable[Asked], read: Callable[[Asked], Got], size: Callable[[Asked], int] = lambda _: 0
) -> Iterator[tuple[Asked, Got]]:
    """Each thing asked for with what was read for it, in order; threads read ahead.

    Threads and never a fork: tensorstore aborts a forked child. When the caller stops early, what waits is
    not read any more.

    Args:
        asked: what to read; taken one further than is read ahead.
        read: called in a thread.
        size: of what is asked for, in bytes. At most AHEAD things are read ahead, and no second one beyond
            AHEAD_BYTES.
    """
    reader, rest = ThreadPoolExecutor(READERS), iter(asked)
    waiting: deque[tuple[Asked, int, Future[Got]]] = deque()
    following = list(islice(rest, 1))

    def read_on() -> None:
        while following and len(waiting) < AHEAD:
            one, more = following[0], size(following[0])
            if waiting and more + sum(size for _, size, _ in waiting) > AHEAD_BYTES:
                return
            waiting.append((one, more, reader.submit(read, one)))
            following[:] = islice(rest, 1)

    try:
        read_on()
        while waiting:
            one, _, future = waiting.popleft()
            got = future.result()
            read_on()  # not before: who waits here still holds the one before
            yield one, got
    finally:
        reader.shutdown(cancel_futures=True)
