"""Tests for intriguing/sharding.py: eight CPU devices, in a process of their own."""

import devices
import jax
import numpy as np
import pytest

from intriguing import sharding
from intriguing.errors import InputError

NUM_IMAGES = 11  # not a multiple of 8: the batch is padded

SCRIPT = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.tree_util import Partial
from intriguing import attack, data, models, predict, sharding, training
from intriguing.errors import InputError

NUM_IMAGES = int(sys.argv[1])
found = {"num_devices": len(jax.devices())}
rng = np.random.default_rng(0)
images = rng.uniform(size=(NUM_IMAGES, 6)).astype(np.float32)
weights = rng.normal(size=(6, 3)).astype(np.float32)
targets = (images @ weights).argmin(axis=1)
weights = jax.device_put(weights, jax.devices()[0])  # where a trained model's arrays lie
logits_fn = Partial(lambda weights, images: images @ weights, weights)
for num in (1, 8):
    mesh = sharding.make_mesh(num)
    result = attack.minimal_perturbation(logits_fn, images, targets, num_penalties=6, mesh=mesh)
    found[f"attack {num}"] = {name: a.tolist() for name, a in result._asdict().items()}
predict.has_slow_loops = lambda *_: True  # the engine's loop is then one in Python
result = attack.minimal_perturbation(logits_fn, images, targets, num_penalties=6, mesh=mesh)
found["attack 8 in steps"] = {name: a.tolist() for name, a in result._asdict().items()}

model = models.fully_connected((5,))
digits = data.take(data.load("digits", "train"), slice(64))
options = {"num_epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": {"fc1": 0.1}}
for batch_size in (16, 12):
    options["batch_size"] = batch_size
    for num in (1, 8):
        mesh = sharding.make_mesh(num)
        state = training.fit(model, digits, jax.random.key(0), mesh=mesh, **options)
        leaves = jax.tree.leaves(state.params)
        found[f"params {batch_size} {num}"] = [a.ravel().tolist() for a in leaves]
        found[f"spread {num}"] = len(leaves[0].sharding.device_set)

mapped = sharding.map_devices(lambda shared, x: x * shared + x.shape[0], sharding.make_mesh(8))
found["mapped"] = jax.jit(mapped)(jnp.float32(2.0), jnp.arange(16.0)).tolist()
try:
    sharding.make_mesh(9)
except InputError as error:
    found["make_mesh(9)"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    return devices.run(SCRIPT, str(NUM_IMAGES))


def test_the_process_has_devices(found):
    assert found["num_devices"] == 8


@pytest.mark.parametrize("way", ["8", "8 in steps"])
def test_attack_on_devices_is_that_on_one(found, way):
    one, eight = ({k: np.array(v) for k, v in found[f"attack {n}"].items()} for n in (1, way))
    assert one["success"].shape == (NUM_IMAGES,) and one["success"].mean() > 0.7
    np.testing.assert_array_equal(eight["success"], one["success"])
    np.testing.assert_array_equal(eight["status"], one["status"])
    np.testing.assert_allclose(eight["distortion"], one["distortion"], rtol=1e-3)
    reached = one["success"]
    assert (one["distortion"][reached] > 0).all()
    assert len(set(one["distortion"][reached].tolist())) == reached.sum()  # or order is untested


@pytest.mark.parametrize("batch_size", [16, 12])  # 12 images on 8 devices: uneven
def test_training_on_devices_is_close_to_one(found, batch_size):
    assert found["spread 8"] == 8 and found["spread 1"] == 1
    params = (found[f"params {batch_size} {num}"] for num in (1, 8))
    for one, eight in zip(*params, strict=True):
        # Sums of a batch in another order, through 16 steps of Adam.
        np.testing.assert_allclose(eight, one, rtol=1e-3, atol=1e-4)


def test_map_devices_splits_and_shares(found):
    assert found["mapped"] == [2 * i + 2 for i in range(16)]  # two rows on each of 8 devices


def test_more_devices_than_there_are(found):
    assert found["make_mesh(9)"] == "num_devices is 9: this machine has 1 to 8"


@pytest.mark.parametrize("num_devices", [0, -1])
def test_no_devices(num_devices):
    with pytest.raises(InputError, match=f"num_devices is {num_devices}"):
        sharding.make_mesh(num_devices)


CORES = """
import json, os, jax
from intriguing import sharding
os.sched_getaffinity = lambda pid: {0, 1, 2}
sharding.use_cores(NUM)
found = [len(jax.devices())]
sharding.use_cores(1)  # too late
found.append(len(jax.devices()))
mesh = sharding.make_mesh()
found += [sharding.are_cores(mesh), sharding.whole_batches(mesh).size]
print(json.dumps(found))
"""


@pytest.mark.parametrize(("num", "flags", "expected"), [
    ("None", "", [3, 3, True, 1]),
    ("2", "", [2, 2, True, 1]),
    ("99", "", [3, 3, True, 1]),
    ("1", "", [1, 1, False, 1]),
    ("2", "--xla_force_host_platform_device_count=4", [4, 4, True, 1]),
])  # fmt: skip
def test_cores_as_devices(num, flags, expected):
    assert devices.run(CORES.replace("NUM", num), flags=flags) == expected


JOBS = """
import json, threading, time
import jax, jax.numpy as jnp
from intriguing import sharding
from intriguing.progress import Progress

mesh, found, together = sharding.make_mesh(), {}, threading.Barrier(2)

def square(job, mesh):
    if job < 2:
        together.wait(60)  # passes only if the first two jobs run at once
    time.sleep(0.05 * (5 - job))  # the last one ends first
    device, = (jnp.arange(3) * job).devices()
    return [job**2, mesh.size, mesh.axis_names == (sharding.DATA,), device.id,
            mesh.devices.flat[0].id]

found["several"] = sharding.side_by_side(square, iter(range(5)), mesh)
found["one"] = [sharding.side_by_side(lambda job, m: [job, m == mesh], [7], mesh)]
one = sharding.make_mesh(1)
found["one device"] = sharding.side_by_side(lambda job, m: [job, m == one], range(3), one)
found["none"] = sharding.side_by_side(square, [], mesh)

def end_with(error):
    ended = []
    def run(job, mesh):
        if job == 1:
            together.wait(60)
            raise error
        try:
            with Progress(1, "endless") as progress:
                if job == 0:
                    together.wait(60)
                while True:
                    progress.update(0)
                    time.sleep(0.001)
        except KeyboardInterrupt:
            ended.append(job)
            raise
    try:
        sharding.side_by_side(run, range(9), mesh)
    except BaseException as caught:
        with Progress(1, "later") as progress:
            progress.update(1)  # not stopped
        workers = [t for t in threading.enumerate() if t.name.startswith("ThreadPool")]
        return [caught is error, 0 in ended, len(ended) <= 2, len(workers)]

found["error"] = end_with(ValueError("no"))
found["interrupt"] = end_with(KeyboardInterrupt())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def jobs():
    return devices.run(JOBS, num=2)


def test_jobs_run_side_by_side_each_on_a_device(jobs):
    squares, sizes, named, used, given = zip(*jobs["several"], strict=True)
    assert squares == (0, 1, 4, 9, 16)  # in the order of the jobs
    assert set(sizes) == {1} and all(named)
    assert used == given  # arrays made in a job lie on its device
    assert set(used[:2]) == {0, 1}


def test_one_job_has_the_whole_mesh(jobs):
    assert jobs["one"] == [[[7, True]]]
    assert jobs["one device"] == [[0, True], [1, True], [2, True]]
    assert jobs["none"] == []


@pytest.mark.parametrize("end", ["error", "interrupt"])
def test_the_first_error_ends_all_jobs(jobs, end):
    is_raised, other_ended, others_never_began, num_workers = jobs[end]
    assert is_raised and other_ended and others_never_began
    assert num_workers == 0


def test_a_mesh_of_one():
    mesh = sharding.make_mesh(1)
    assert mesh.size == 1 and mesh.axis_names == (sharding.DATA,)
    assert sharding.make_mesh().size == len(jax.devices())
    array = jax.device_put(np.arange(4.0), sharding.split(mesh))
    assert array.sharding.spec == jax.sharding.PartitionSpec(sharding.DATA)
    assert jax.device_put(1.0, sharding.replicated(mesh)).sharding.is_fully_replicated


@pytest.mark.parametrize(
    ("before", "after"), [(None, "HIGHEST"), ("bfloat16", "DEFAULT"), ("float32", "HIGHEST")]
)
def test_float32_unless_the_user_chose(before, after):
    chosen = jax.config.jax_default_matmul_precision
    try:
        jax.config.update("jax_default_matmul_precision", before)
        sharding.use_float32()
        matrix = np.ones((2, 2), np.float32)
        text = jax.jit(lambda a: a @ a).lower(matrix).as_text()
    finally:
        jax.config.update("jax_default_matmul_precision", chosen)
    assert f"precision = [{after}, {after}]" in text
