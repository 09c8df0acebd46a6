"""Feeds images to a search on c, engine or stock solver, and brings its results back to the host.

Device memory holds `num_lanes` images at work and a queue of a few times as many.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from intriguing import compiling, sharding
from intriguing.attack import engine, stock_search
from intriguing.attack import lanes as lanes_of
from intriguing.attack.goals import Goal
from intriguing.attack.lanes import Finished, Queue, Work
from intriguing.attack.problem import Problem

QUEUE_LENGTH = 4  # images handed to the device at a time, per lane
LANE_PIXELS = {"cpu": 2**17, "gpu": 2**24, "tpu": 2**24}  # pixels that a device's lanes hold


class How(NamedTuple):
    """How a search is run: what a lane does, `num_lanes` over all devices of `mesh`, and whether
    to go `in_steps` from Python.
    """

    search: lanes_of.Search
    num_lanes: int
    mesh: Mesh
    in_steps: bool


class Utilisation(NamedTuple):
    """`busy`: lane steps that worked on an image; `total`: all lane steps."""

    busy: int
    total: int


def choose_num_lanes(images, num_lanes: int | None, mesh) -> int:
    """Lanes over all devices: `num_lanes` each or, if None, as many as suit the kind of device.

    On a CPU as many as keep the solver's arrays in cache; a power of two, that vectors are full,
    and no more than the next one to the number of images, so that a few more or fewer of them
    compile nothing anew.
    """
    num_shards = sharding.num_shards(mesh)
    if num_lanes is None:
        budget = LANE_PIXELS.get(mesh.devices.flat[0].platform, LANE_PIXELS["gpu"])
        most = int(np.clip(budget // max(images[0].size, 1), 8, 8192))
        num_lanes = 1 << (most.bit_length() - 1)
    num_each = -(-len(images) // num_shards)
    return min(num_lanes, 1 << (num_each - 1).bit_length()) * num_shards


class Job(NamedTuple):
    """What every device is given: the network, the goal, and how lanes search."""

    logits_fn: Any
    goal: Goal
    search: lanes_of.Search


@compiling.jit(static_argnames=("mesh", "image_shape"), donate_argnums=(1, 2))
def run_engine(job: Job, lanes, clock, queue, drain, mesh, image_shape):
    """`engine.run` on each device, with its own lanes and its own part of the queue."""

    def on_device(shared, lanes, clock, queue):
        (logits_fn, goal, search), drain = shared
        return _split(
            engine.run(logits_fn, goal, lanes, clock[0], queue, drain, image_shape, search)
        )

    return sharding.map_devices(on_device, mesh)((job, drain), lanes, clock, queue)


def step_engine(progress, job: Job, lanes, clock, queue, drain, **static):
    """`run_engine` as a loop in Python, for networks that XLA runs slowly inside a loop.

    `progress` is called with the number of rows finished so far.
    """
    mesh, image_shape = static["mesh"], static["image_shape"]
    work, going = _begin(lanes, clock, queue, drain, job.search, mesh=mesh)
    while np.any(going):
        work = _step(job, work, mesh=mesh, image_shape=image_shape)
        if np.any(np.asarray(work.lanes.done) & (np.asarray(work.lanes.index) >= 0)):
            work, going = _exchange(work, queue, drain, job.search, mesh=mesh)
            progress(int(np.sum(work.num_finished)))
    return work


@compiling.jit(static_argnames="mesh")
def _begin(lanes, clock, queue, drain, search, mesh):
    def on_device(shared, lanes, clock, queue):
        drain, search = shared
        work = engine.begin(lanes, clock[0], queue, search)
        return _split(work), engine.keep_going(work, queue, drain)[None]

    return sharding.map_devices(on_device, mesh)((drain, search), lanes, clock, queue)


@compiling.jit(static_argnames=("mesh", "image_shape"), donate_argnums=1)
def _step(job: Job, work, mesh, image_shape):
    def on_device(job, work):
        return _split(engine.step(job.logits_fn, job.goal, _join(work), image_shape, job.search))

    return sharding.map_devices(on_device, mesh)(job, work)


@compiling.jit(static_argnames="mesh", donate_argnums=0)
def _exchange(work, queue, drain, search, mesh):
    def on_device(shared, work, queue):
        drain, search = shared
        work = engine.exchange(_join(work), queue, search)
        return _split(work), engine.keep_going(work, queue, drain)[None]

    return sharding.map_devices(on_device, mesh)((drain, search), work, queue)


def _split(work: Work) -> Work:
    """Its scalars as arrays (1,), that those of all devices can be joined to one array."""
    return jax.tree.map(lambda array: array[None] if array.ndim == 0 else array, work)


def _join(work: Work) -> Work:
    """The inverse of `_split`."""
    numbers = ("clock", "busy", "taken", "num_finished")
    return work._replace(**{name: getattr(work, name)[0] for name in numbers})


@compiling.jit(static_argnames=("mesh", "image_shape", "options"))
def _run_stock(logits_fn, goal, queue, mesh, image_shape, options):
    def on_device(shared, queue):
        return stock_search.run(*shared, queue, image_shape, options)

    return sharding.map_devices(on_device, mesh)((logits_fn, goal), queue)


def batched(logits_fn, problem: Problem, how: How, progress, utilisation) -> Iterator[Finished]:
    """Streams the images through the engine; yields rows as they finish, as numpy arrays."""
    images, num_lanes, mesh = problem.images, how.num_lanes, how.mesh
    length, num_done, busy = QUEUE_LENGTH * num_lanes, 0, []
    run = run_engine
    if how.in_steps:
        run = functools.partial(step_engine, lambda num: progress(num_done + num))
    queue = make_queue(problem, 0, length, mesh)
    lanes, clock = make_lanes(queue, how.search, num_lanes=num_lanes, mesh=mesh)
    before, job = None, Job(logits_fn, problem.goal, how.search)
    for start in range(0, len(images), length):
        drain = jnp.asarray(start + length >= len(images))
        work = run(job, lanes, clock, queue, drain, mesh=mesh, image_shape=images.shape[1:])
        lanes, clock = work.lanes, work.clock
        busy.append(work.busy)
        # The next chunk is under way before the last one's results are waited for.
        queue = make_queue(problem, start + length, length, mesh)
        for finished in (before,) if before is not None else ():
            rows = _rows_of(finished)
            num_done += len(rows.index)
            yield rows
        before = work.finished
    yield _rows_of(before)
    if utilisation is not None:
        num_busy = sum(int(np.asarray(part, np.int64).sum()) for part in busy)
        num_steps = int(np.asarray(clock, np.int64).sum())
        utilisation(Utilisation(num_busy, num_steps * (num_lanes // sharding.num_shards(mesh))))


def _rows_of(finished: Finished) -> Finished:
    """The rows that hold an image, on the host."""
    finished = jax.tree.map(np.asarray, finished)
    kept = np.flatnonzero(finished.index >= 0)
    return Finished(*(array[kept] for array in finished))


@compiling.jit(static_argnames=("num_lanes", "mesh"))
def make_lanes(queue: Queue, search, num_lanes: int, mesh: Mesh):
    """(empty lanes, clocks), each made on the device that works with it."""
    num_shards = sharding.num_shards(mesh)

    def on_device(search, queue):
        lanes = lanes_of.empty_lanes(num_lanes // num_shards, queue, search)
        return lanes, jnp.zeros(1, jnp.int32)

    return sharding.map_devices(on_device, mesh)(search, queue)


def stock(logits_fn, problem: Problem, how: How, progress, utilisation) -> Iterator[Finished]:
    """Batches of `num_lanes` images through jaxopt's solver; yields their rows."""
    del progress, utilisation
    images = problem.images
    for start in range(0, len(images), how.num_lanes):
        queue = make_queue(problem, start, how.num_lanes, how.mesh)
        finished = _run_stock(
            logits_fn,
            problem.goal,
            queue,
            mesh=how.mesh,
            image_shape=images.shape[1:],
            options=how.search,
        )
        yield _rows_of(finished)


SOLVERS = {"batched": batched, "jaxopt": stock}


def make_queue(problem: Problem, start: int, length: int, mesh) -> Queue:
    """Images from `start` on, flat, dealt out among the devices; padded with index -1."""
    index = np.arange(start, start + length)
    index = np.where(index < len(problem.images), index, -1)
    # Dealt round: the last chunk is even too.
    index = index.reshape(-1, sharding.num_shards(mesh)).T.ravel()
    *pixels, labels, _ = problem.rows(index)
    pixels = (array.reshape(length, -1) for array in pixels)
    queue = Queue(index.astype(np.int32), *pixels, labels)
    return sharding.put(queue, sharding.split(mesh))


def in_batches(parts: Iterator[Finished], batch_size: int, num_images: int) -> Iterator[Finished]:
    """Regroups rows into batches of `batch_size`; the last one is smaller."""
    num_seen, waiting = 0, []
    for part in parts:
        num_seen += len(part.index)
        waiting.append(part)
        rows = Finished(*(np.concatenate(fields) for fields in zip(*waiting, strict=True)))
        least = 1 if num_seen == num_images else batch_size
        while len(rows.index) >= least:
            yield Finished(*(field[:batch_size] for field in rows))
            rows = Finished(*(field[batch_size:] for field in rows))
        waiting = [rows]
