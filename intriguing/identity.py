"""What something was made from, as short hashes: results of other data or weights never mix.

`MadeFrom` is kept beside what was computed. What does not fit is made anew, and that is said.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from intriguing import processes

MadeFrom = dict[str, str]  # "weights", "images", ... -> a hash, or the settings themselves

NUMERICS = 10  # raise it with any change of the code that changes the numbers of an attack


def of_arrays(*trees: Any) -> str:
    """Hash of pytrees of arrays, strings and numbers: of structure, names, dtypes and values."""
    digest = hashlib.blake2b(digest_size=16)
    leaves, structure = jax.tree_util.tree_flatten_with_path(trees)
    digest.update(re.sub(r" at 0x[0-9a-f]+", "", str(structure)).encode())
    for path, leaf in leaves:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(processes.fetch(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(
            str(array).encode() if array.dtype.kind in "OU" else memoryview(array).cast("B")
        )
    return digest.hexdigest()


def of_function(fn: Callable, *args: Any) -> str:
    """Hash of what `fn` computes from arguments of these shapes: of its trace, constants and all.

    Architecture, losses and settings that a function closes over are part of it; names of
    variables and places in memory are not.
    """
    traced = jax.make_jaxpr(fn)(*args)
    text = re.sub(r" at 0x[0-9a-f]+", "", str(traced.jaxpr))
    return of_arrays(text, traced.consts)


def of_settings(**settings: Any) -> str:
    """The settings themselves, as JSON in the order of their names."""
    return json.dumps(settings, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else np.asarray(value).tolist()


def of_model(logits_fn, image_shape: tuple[int, ...], dtype=np.float32) -> MadeFrom:
    """The weights of a `jax.tree_util.Partial`, and what network they are in.

    The weights that any other callable closes over are part of the network's trace.
    """
    logits_fn = logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)
    leaves, structure = jax.tree.flatten(logits_fn)
    one = jax.ShapeDtypeStruct((1, *image_shape), dtype)
    shapes = [jax.ShapeDtypeStruct(np.shape(leaf), jax.numpy.result_type(leaf)) for leaf in leaves]

    def apply(leaves, images):
        return jax.tree.unflatten(structure, leaves)(images)

    network = of_function(apply, shapes, one)
    return {"weights": of_arrays(leaves), "network": network, "jax": jax.__version__}


def name(made_from: MadeFrom) -> str:
    """A short name of all of it, fit for a folder."""
    return of_arrays(of_settings(**made_from))[:12]


def differences(there: MadeFrom, here: MadeFrom) -> str:
    """What is not the same, in words: "weights, images"; empty if all is."""
    if not there:
        return "something that it does not say"
    return ", ".join(key for key in here | there if here.get(key) != there.get(key))
