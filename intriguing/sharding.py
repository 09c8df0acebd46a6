"""The device mesh: an axis for data, one for networks too large for a device; the only shard_map.

On a CPU each core can be a device (`use_cores`): a program of small operations gains little from a
second thread, whereas two programs with a thread each do not wait for one another.
"""

import contextlib
import contextvars
import itertools
import os
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from intriguing import progress
from intriguing.errors import InputError

DATA = "data"
MODEL = "model"


def use_cores(num_cores: int | None = None) -> None:
    """Makes cores of the CPU devices of their own: `num_cores` of them, at most (default) all.

    Must come before the first use of a device; later it changes nothing. Accelerators are not
    affected, and a count that `XLA_FLAGS` forces stays as it is.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    available = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    count = available if num_cores is None else max(1, min(num_cores, available))
    with contextlib.suppress(RuntimeError):  # devices are in use already
        jax.config.update("jax_num_cpu_devices", count)


def use_float32() -> None:
    """Makes products of float32 matrices as exact on an accelerator as on a CPU.

    By default GPUs round what they multiply to 11 bits (TF32) and TPUs to 8 (bfloat16), which is
    coarser than a minimal perturbation. A precision that the user has chosen stays as it is:
    `JAX_DEFAULT_MATMUL_PRECISION` in the environment.
    """
    if jax.config.jax_default_matmul_precision is None:
        jax.config.update("jax_default_matmul_precision", "float32")


def make_mesh(num_devices: int | None = None, model_devices: int | None = 1) -> Mesh:
    """A mesh over the first `num_devices` devices of this process (default: all of them).

    Its axis "data" divides images. With `model_devices` > 1 (None: all) there is a second one,
    "model", of that size: as many devices work on the same images, each with its rows of weights;
    None without `num_devices` are those of all processes.

    Raises:
      InputError: there are fewer devices than asked for, or they cannot be grouped so.
    """
    devices = jax.local_devices()
    if model_devices is None and num_devices is None:
        devices = jax.devices()  # of all processes
    num_devices = len(devices) if num_devices is None else num_devices
    if not 1 <= num_devices <= len(devices):
        raise InputError(f"num_devices is {num_devices}: this machine has 1 to {len(devices)}")
    model_devices = num_devices if model_devices is None else model_devices
    if model_devices < 1 or num_devices % model_devices:
        raise InputError(
            f"model_devices is {model_devices}: it must divide the {num_devices} devices"
        )
    return _mesh_of(devices[:num_devices], model_devices)


def _mesh_of(devices, model_devices: int = 1) -> Mesh:
    shape, names = (len(devices) // model_devices,), (DATA,)
    if model_devices > 1:
        shape, names = (*shape, model_devices), (DATA, MODEL)
    # Auto axes: on Explicit ones (the default of make_mesh) jaxopt's while loops do not trace.
    return jax.make_mesh(shape, names, (AxisType.Auto,) * len(names), devices=tuple(devices))


_CURRENT: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@contextlib.contextmanager
def using(mesh: Mesh) -> Iterator[None]:
    """Within it, in this thread, networks are asked on all devices of the mesh."""
    token = _CURRENT.set(mesh)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_mesh() -> Mesh | None:
    """The mesh of `using`; None outside, and in threads that `side_by_side` has begun."""
    return _CURRENT.get()


def num_shards(mesh: Mesh) -> int:
    """Parts that images are divided into."""
    return mesh.shape[DATA]


def check_independent(mesh: Mesh) -> None:
    """Raises InputError for a mesh that is not `make_mesh`'s, or whose loops would wait for ever.

    Devices that share weights exchange rows of activations, XLA lets all of a mesh take part in
    that, and some would have left the loop.
    """
    if DATA not in mesh.axis_names or any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise InputError(f"mesh has axes {mesh.axis_names}: pass one of sharding.make_mesh()")
    if MODEL in mesh.axis_names and num_shards(mesh) > 1:
        raise InputError(
            f"model_devices is {mesh.shape[MODEL]}: an attack needs 1 or all {mesh.size} devices"
        )


def by_rows(mesh: Mesh) -> NamedSharding:
    """Sharding of weights whose leading axis is divided along the model axis, if there is one."""
    return NamedSharding(mesh, PartitionSpec(MODEL if MODEL in mesh.axis_names else None))


def place(tree, mesh: Mesh):
    """Puts a copy of each array on every device; those that lie on this mesh stay as they are."""

    def copy(array):
        there = getattr(getattr(array, "sharding", None), "mesh", None) == mesh
        return array if there else put(array, replicated(mesh))

    return jax.tree.map(copy, tree)


def build_rows(make_row: Callable, shape: tuple[int, ...], dtype, mesh: Mesh) -> jax.Array:
    """An array of `shape` with rows `make_row(i)`, each made on the device that is to hold it.

    Nothing but the array and one row per device is in memory. `make_row` must be traceable.

    Raises:
      InputError: the rows do not divide among the devices.
    """
    num_parts = mesh.shape.get(MODEL, 1)
    if shape[0] % num_parts:
        raise InputError(f"model_devices is {num_parts}: it must divide {shape[0]} rows of weights")
    num = shape[0] // num_parts

    def on_device():
        first = jax.lax.axis_index(MODEL) * num if num_parts > 1 else 0
        rows = jnp.zeros((num, *shape[1:]), dtype)
        return jax.lax.fori_loop(0, num, lambda i, x: x.at[i].set(make_row(first + i)), rows)

    specs = {"in_specs": (), "out_specs": by_rows(mesh).spec}
    return jax.jit(jax.shard_map(on_device, mesh=mesh, check_vma=False, **specs))()


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array of which every device holds a copy."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Sharding of an array whose leading axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def are_cores(mesh: Mesh) -> bool:
    """Whether the devices are cores of a CPU (JAX sees several), which share its memory."""
    device = mesh.devices.flat[0]
    return device.platform == "cpu" and len(device.client.devices()) > 1


def whole_batches(mesh: Mesh) -> Mesh:
    """The mesh to train on: batches are too small to be worth dividing among a CPU's cores."""
    return _mesh_of(mesh.devices.flat[:1]) if are_cores(mesh) else mesh


def of_all_processes(mesh: Mesh) -> Mesh:
    """The mesh to train one large network on: batches are divided among all processes' devices."""
    if MODEL in mesh.axis_names or jax.process_count() == 1:
        return whole_batches(mesh)
    num = 1 if are_cores(mesh) else mesh.size
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    chosen = [
        device
        for _, own in itertools.groupby(devices, lambda device: device.process_index)
        for device in itertools.islice(own, num)
    ]
    return _mesh_of(chosen)


def spans_processes(mesh: Mesh) -> bool:
    """Whether its devices are of several processes, which then must all do the same at once."""
    return len({device.process_index for device in mesh.devices.flat}) > 1


def put(tree, where: NamedSharding):
    """Arrays that each process has as a whole, laid out over the devices of all processes."""
    if where.is_fully_addressable:
        return jax.device_put(tree, where)

    def put_one(array):
        if jax.dtypes.issubdtype(getattr(array, "dtype", None), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put_one(jax.random.key_data(array)))
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, where, lambda index: whole[index])

    return jax.tree.map(put_one, tree)


def side_by_side(run: Callable, jobs: Iterable, mesh: Mesh) -> list:
    """Calls `run(job, mesh)` for each job, as many at a time as there are devices, one on each.

    A single job has all the devices to itself. Small models gain nothing from several devices, but
    several of them do. What a job returns does not depend on which device it ran on.

    Returns:
      What `run` returned, in the order of `jobs`. The first error (or the user's interrupt) ends
      all of them, when each next calls `Progress.update`, and is raised.
    """
    jobs = list(jobs)
    if mesh.size == 1 or len(jobs) == 1:
        return [run(job, mesh) for job in jobs]
    idle = queue.SimpleQueue()
    for device in mesh.devices.flat:
        idle.put(device)

    def on_idle_device(job):
        device = idle.get()
        try:
            with jax.default_device(device):
                return run(job, _mesh_of([device]))
        finally:
            idle.put(device)

    with progress.stoppable() as stop_all, futures.ThreadPoolExecutor(mesh.size) as threads:
        pending = [threads.submit(on_idle_device, job) for job in jobs]
        try:
            for done in futures.as_completed(pending):
                done.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
    return [done.result() for done in pending]


def map_devices(fn, mesh: Mesh):
    """Runs `fn(shared, *args)` on each device: `shared` is replicated, each of `args` is split.

    There is no communication, so that loops inside `fn` end independently on each device. The
    leading axes of `args` and of the outputs are divided along the data axis. Along a model axis
    XLA divides the work, as the arrays of `shared` are laid out there.
    """

    def mapped(shared, *args):
        specs = (PartitionSpec(), *(PartitionSpec(DATA) for _ in args))
        body = jax.shard_map(
            fn, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(DATA), axis_names={DATA},
            check_vma=False,
        )  # fmt: skip
        return body(shared, *args)

    return mapped
