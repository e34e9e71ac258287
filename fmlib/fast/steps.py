"""A training step on CUDA, recorded once and replayed."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from fmlib.training import Step


class RecordedStep:
    """A step on CUDA, recorded as a CUDA graph for every shape of batch, and replayed from then on.

    A small network's step is hundreds of kernels, which a GPU computes sooner than Python starts
    them one by one; a graph is started at once. A recorded step finds all that it reads where it
    was when recorded: batches are copied there. So a network must not choose by the values in its
    tensors what it computes.
    """

    WARM_UP_STEPS = 3  # in which libraries and the optimiser take the memory that they keep

    def __init__(self, step: Step) -> None:
        self.step, self.taken = step, 0
        self.stream = torch.cuda.Stream()  # the default one cannot be recorded
        self.graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]] = {}

    def __call__(self, batch: Tensor, labels: Tensor) -> Tensor:
        caller = torch.cuda.current_stream()
        self.stream.wait_stream(caller)
        with torch.cuda.stream(self.stream):
            loss = self._take(batch, labels)
        caller.wait_stream(self.stream)
        return loss

    def _take(self, batch: Tensor, labels: Tensor) -> Tensor:
        self.taken += 1
        if self.taken <= self.WARM_UP_STEPS:
            with warnings.catch_warnings():
                # torch thinks that an optimiser may never be recorded
                warnings.filterwarnings("ignore", ".*capturable=True")
                return self.step(batch, labels)
        if batch.shape not in self.graphs:
            self.graphs[batch.shape] = self._record(batch.clone(), labels.clone())
        graph, kept_batch, kept_labels, loss = self.graphs[batch.shape]
        kept_batch.copy_(batch)
        kept_labels.copy_(labels)
        graph.replay()
        return loss

    def _record(
        self, batch: Tensor, labels: Tensor
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]:
        graph = torch.cuda.CUDAGraph()
        pool = next((recorded.pool() for recorded, *_ in self.graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool, stream=self.stream):
            loss = self.step(batch, labels)
        return graph, batch, labels, loss
