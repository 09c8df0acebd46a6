"""How many lanes a device's memory holds, by what the compiler says that one costs."""

import jax
import jax.numpy as jnp

from intriguing.attack.feed import QUEUE_LENGTH
from intriguing.attack.objective import evaluate

SHARE = 0.7  # of the free memory: the refinement, and what the allocator loses, get the rest
PROBED = 2  # lanes that the compiler is asked about
ARRAYS = 12  # of an image's size per lane beside its search's state: problem, best, finished rows


def free_bytes(device) -> int | None:
    """Bytes that are left on a device, or None where it does not say, as a CPU does not."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


@jax.jit
def first_step(model, goal, images, labels, flat, search):
    """What the engine evaluates in its first step; for its shapes, errors and memory, never run."""
    asks = jax.vmap(search.asks)(jax.vmap(search.init)(flat))
    return evaluate(model, goal, images, labels, asks)


def bytes_per_lane(model, problem, search) -> int:
    """Of an evaluation (activations, as the compiler plans them), and of the lane's own arrays."""
    images, _, _, labels, goal = problem
    size = images[0].size

    def like(array):
        return jax.ShapeDtypeStruct((PROBED, *array.shape[1:]), array.dtype)

    flat = jax.ShapeDtypeStruct((PROBED, size), images.dtype)
    args = (model, goal, like(images), like(labels), flat, search)
    plan = first_step.lower(*args).compile().memory_analysis()
    state = jax.eval_shape(search.init, jax.ShapeDtypeStruct((size,), images.dtype))
    own = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    copies = (ARRAYS + QUEUE_LENGTH) * size * jnp.dtype(images.dtype).itemsize
    return (plan.temp_size_in_bytes + plan.output_size_in_bytes) // PROBED + 2 * own + copies


def lanes_that_fit(model, problem, search, free: int) -> int:
    """Lanes for which `free` bytes are enough: at least 1."""
    return max(1, int(SHARE * free) // bytes_per_lane(model, problem, search))
