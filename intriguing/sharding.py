"""The device mesh: one data axis, and the only shard_map of the house."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from intriguing.errors import InputError

DATA = "data"


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
