"""How programs are compiled: XLA's options for the devices that they run on."""

import functools
import os

import jax
from jax.sharding import Mesh

from intriguing import sharding


def jit(*, static_argnames=(), donate_argnums=()):
    """`jax.jit` for a function with a keyword `mesh`, compiled as `compiler_options` says.

    What it returns has `eval_shape`, as what `jax.jit` returns does.
    """

    def decorate(function):
        @functools.cache
        def compiled(options):
            return jax.jit(
                function, static_argnames=static_argnames, donate_argnums=donate_argnums,
                compiler_options=dict(options),
            )  # fmt: skip

        @functools.wraps(function)
        def call(*args, mesh, **kwargs):
            options = tuple(compiler_options(mesh).items())
            return compiled(options)(*args, mesh=mesh, **kwargs)

        call.eval_shape = compiled(()).eval_shape
        return call

    return decorate


# XLA's newer kernels of convolutions took 1.5 times as long as Eigen's (jax 0.10, ResNet-20).
EIGEN_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def compiler_options(mesh: Mesh | None = None) -> dict:
    """XLA's for the devices of a mesh, or the default one: on a CPU, its fastest convolutions.

    Each core that is a device of its own has one thread.
    """
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    options = {} if device.platform != "cpu" else dict(_cpu_options())
    if mesh is not None and sharding.are_cores(mesh):
        options["xla_cpu_multi_thread_eigen"] = False
    return options


@functools.cache
def _cpu_options() -> dict:
    """Those that this version of XLA knows; what the user's `XLA_FLAGS` say stays."""
    if any(name in os.environ.get("XLA_FLAGS", "") for name in EIGEN_CONVOLUTIONS):
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=EIGEN_CONVOLUTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return EIGEN_CONVOLUTIONS
