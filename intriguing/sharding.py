"""The device mesh: one data axis, and the only shard_map of the house.

On a CPU each core can be a device (`use_cores`): a program of small operations gains little from a
second thread, whereas two programs with a thread each do not wait for one another.
"""

import contextlib
import functools
import os

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from intriguing.errors import InputError

DATA = "data"


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


def make_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh with one axis, "data", over the first `num_devices` devices (default: all of them).

    Raises:
      InputError: there are fewer devices than asked for.
    """
    devices = jax.devices()
    num_devices = len(devices) if num_devices is None else num_devices
    if not 1 <= num_devices <= len(devices):
        raise InputError(f"num_devices is {num_devices}: this machine has 1 to {len(devices)}")
    # Auto axes: on Explicit ones (the default of make_mesh) jaxopt's while loops do not trace.
    return jax.make_mesh((num_devices,), (DATA,), (AxisType.Auto,), devices=devices[:num_devices])


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array of which every device holds a copy."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Sharding of an array whose leading axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def are_cores(mesh: Mesh) -> bool:
    """Whether the devices are the cores of one CPU, which share its memory."""
    return mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"


def whole_batches(mesh: Mesh) -> Mesh:
    """The mesh to train on: batches are too small to be worth dividing among a CPU's cores."""
    return make_mesh(1) if are_cores(mesh) else mesh


def jit(*, static_argnames):
    """`jax.jit` for a function with a keyword `mesh`: one thread for each core that is a device."""

    def decorate(function):
        compiled = functools.partial(jax.jit, function, static_argnames=static_argnames)
        many = compiled()
        single = compiled(compiler_options={"xla_cpu_multi_thread_eigen": False})

        @functools.wraps(function)
        def call(*args, mesh, **kwargs):
            return (single if are_cores(mesh) else many)(*args, mesh=mesh, **kwargs)

        return call

    return decorate


def map_devices(fn, mesh: Mesh):
    """Runs `fn(shared, *args)` on each device: `shared` is replicated, each of `args` is split.

    There is no communication, so that loops inside `fn` end independently on each device. The
    leading axes of `args` and of the outputs are divided among the devices.
    """

    def mapped(shared, *args):
        specs = (PartitionSpec(), *(PartitionSpec(DATA) for _ in args))
        body = jax.shard_map(
            fn, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(DATA), check_vma=False
        )
        return body(shared, *args)

    return mapped
