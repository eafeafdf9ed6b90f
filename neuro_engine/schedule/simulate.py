"""When each task runs.

Two passes over the events, which are starts and ends of tasks. The first takes network and DRAM to be infinitely fast
and finds, with a heap, the order of the events. In the second, links and DRAM serve the tasks in that order: the DRAM
as they start, the links as results are ready. A fixed order is what a compiled schedule has, and it makes each start a
maximum of sums of durations: no task can start later because something became faster, as it could where the order
depends on the times (Graham, 1969).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import defaultdict
from itertools import count

import numpy as np

from neuro_engine.cost.noc import NocParameters
from neuro_engine.mapping import CoreMapping, LayerWork, Setup
from neuro_engine.mapping.placement import first_cores
from neuro_engine.schedule.graph import Graph, LaneKey, Task
from neuro_engine.schedule.result import Event, Lane, Schedule, Stall
from neuro_engine.schedule.transfers import Load
from neuro_engine.trace import Engine


def schedule(
    work: tuple[LayerWork, ...],
    mapping: CoreMapping,
    setup: Setup,
    noc: NocParameters | None = None,
    in_flight: int | None = None,
) -> Schedule:
    """Simulate one batch: FP, BP and WG of all micro-batches, then the updates.

    Args:
        work: the layers.
        mapping: where they are, of `search` or `greedy`.
        setup: the chip and how the batch runs. Its links are not used: `noc` has them.
        noc: the mesh, or None where bytes between cores take no time.
        in_flight: the most micro-batches that a replica of a stage has room for; None for as many as it can use.

    Raises:
        ValueError: the mapping is of other layers or without splits, or there is no room for a micro-batch.
    """
    names = tuple(layer for stage in mapping.stages for layer in stage.layers if stage.splits)
    if names != tuple(layer.name for layer in work):
        raise ValueError(f"expected a mapping with splits of the work's {len(work)} layers, got {mapping}")
    if in_flight is not None and in_flight < 1:
        raise ValueError(f"expected room for at least one micro-batch, got {in_flight}")
    if not work:
        return Schedule(0.0)
    graph = Graph(work, mapping, setup, noc, in_flight)
    return _Run(graph).result(_order(graph.tasks))


def _order(tasks: list[Task]) -> list[tuple[int, bool]]:
    """Starts (False) and ends (True) of the tasks, in order of time if network and DRAM take none."""
    waiting = [0] * len(tasks)
    followers: list[list[int]] = [[] for _ in tasks]
    for number, task in enumerate(tasks):
        for other in task.before:
            waiting[number] += 1
            followers[other].append(number)
    # Of events at the same time, the one that was known first.
    heap = [(0.0, number, number, False) for number, before in enumerate(waiting) if not before]
    known = count(len(tasks))
    order = []
    while heap:
        time, _, number, ended = heapq.heappop(heap)
        order.append((number, ended))
        if not ended:
            heapq.heappush(heap, (time + tasks[number].cycles, next(known), number, True))
            continue
        for follower in followers[number]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(heap, (time, next(known), follower, False))
    return order


class _Run:
    """The second pass: the state of links, DRAM and engines while tasks are placed in time."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.starts, self.ends, self.computed, self.arrived = ([0.0] * len(graph.tasks) for _ in range(4))
        self.readers: list[list[tuple[int, Load | None]]] = [[] for _ in graph.tasks]
        for number, task in enumerate(graph.tasks):
            for need in task.needs:
                self.readers[need.task].append((number, need.load))
        self.link_free = np.zeros(len(graph.transfers.links))
        self.link_busy = np.zeros(len(graph.transfers.links))
        self.dram_free = self.dram_bytes = 0.0
        self.byte_hops: defaultdict[tuple[str, Engine], float] = defaultdict(float)
        self.stalls: defaultdict[tuple[int, Stall], float] = defaultdict(float)
        self.lane_ends = [0.0] * len(graph.lanes)

    def result(self, order: list[tuple[int, bool]]) -> Schedule:
        """Start and end the tasks in this order."""
        graph = self.graph
        for number, ended in order:
            if ended:
                self._end(number)
            else:
                self._start(number)
        events = tuple(
            Event(task.lane, graph.work[task.layer].name, task.micro_batch, task.tile, self.starts[n], self.ends[n])
            for n, task in ((n, graph.tasks[n]) for n, ended in order if not ended)
        )
        return Schedule(
            max(self.ends),
            tuple(self._lane(lane, key) for lane, key in enumerate(graph.lanes)),
            events,
            tuple(self._most_in_flight(index) for index in range(len(graph.mapping.stages))),
            self.dram_bytes,
            self.dram_bytes / graph.setup.dram_bytes_per_cycle,
            {link: float(self.link_busy[number]) for link, number in graph.transfers.links.items()},
            dict(self.byte_hops),
        )

    def _start(self, number: int) -> None:
        """Start a task as soon as its engine, operands, buffers and bytes are there, and note what it waited for."""
        task = self.graph.tasks[number]
        free = self.ends[task.previous] if task.previous >= 0 else 0.0
        computed = self.computed[number]
        arrived = max(self.arrived[number], self._send(task.gathered, computed, task))
        room = max((self.ends[other] for other in task.frees), default=0.0)
        fetched = self._fetch(task)
        causes = (Stall.DEPENDENCY, computed), (Stall.NOC, arrived), (Stall.BUFFER, room), (Stall.DRAM, fetched)
        at = free
        for cause, ready in causes:
            if ready > at:
                self.stalls[task.lane, cause] += ready - at
                at = ready
        self.starts[number] = at
        self.ends[number] = self.lane_ends[task.lane] = at + task.cycles

    def _end(self, number: int) -> None:
        """Send a task's result to those that read it."""
        end, task = self.ends[number], self.graph.tasks[number]
        for reader, load in self.readers[number]:
            self.computed[reader] = max(self.computed[reader], end)
            self.arrived[reader] = max(self.arrived[reader], self._send(load, end, task))

    def _send(self, load: Load | None, ready: float, task: Task) -> float:
        """When a task's bytes that are ready have arrived; a link passes them on when it has passed on those before."""
        if load is None:
            return ready
        done = np.maximum(self.link_free[load.links], ready) + load.cycles
        self.link_free[load.links] = done
        self.link_busy[load.links] += load.cycles
        self.byte_hops[self.graph.work[task.layer].name, self.graph.lanes[task.lane].engine] += load.byte_hops
        return float(done.max()) + load.latency

    def _fetch(self, task: Task) -> float:
        """When the DRAM has moved a task's bytes, which it may do while the task before still runs (two buffers)."""
        if not task.dram_bytes:
            return 0.0
        asked = self.starts[task.previous] if task.previous >= 0 else 0.0
        self.dram_free = max(self.dram_free, asked) + task.dram_bytes / self.graph.setup.dram_bytes_per_cycle
        self.dram_bytes += task.dram_bytes
        return self.dram_free

    def _lane(self, lane: int, key: LaneKey) -> Lane:
        graph = self.graph
        stage, first = graph.mapping.stages[key.stage], first_cores(graph.mapping)[key.stage]
        times = 1
        cores = range(first, first + stage.cores * stage.replicas)
        if key.engine is not Engine.UPDATE:
            times = len(range(key.replica, graph.setup.micro_batches, stage.replicas))
            cores = cores[key.replica * stage.cores :][: stage.cores]
        layers = [graph.core_cycles(key, layer) for layer in graph.layers(key.stage)]
        busy = tuple(times * sum(of_core) for of_core in zip(*layers, strict=True))
        stalls = {cause: self.stalls[lane, cause] for cause in Stall}
        # The first core of a grid has the largest part of every layer.
        return Lane(*key, tuple(cores), busy[0], busy, stalls, self.lane_ends[lane])

    def _most_in_flight(self, index: int) -> int:
        graph = self.graph
        first, most = graph.layers(index)[0], 0
        for replica in range(graph.mapping.stages[index].replicas):
            batches = range(replica, graph.setup.micro_batches, graph.mapping.stages[index].replicas)
            begun = [self.starts[graph.number(Engine.FP, first, batch)] for batch in batches]
            gone = [max(self.ends[graph.number(e, first, batch)] for e in (Engine.BP, Engine.WG)) for batch in batches]
            # Micro-batches come and go in order.
            most = max(most, *(place + 1 - bisect_right(gone, start, 0, place) for place, start in enumerate(begun)), 0)
        return most
