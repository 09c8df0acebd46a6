"""`--config=configs/imagenet_attack.py:squeezenet` and nothing else: weights and photographs come.

The published files are small ones of the same formats, served on this machine.
"""

import hashlib
import io
import tarfile
import threading

import jax
import numpy as np
import pytest
from fetch_test import Handler, Server
from PIL import Image

from configs import imagenet_attack
from intriguing import fetch, models
from intriguing.data import imagenet, published
from intriguing.errors import InputError
from intriguing.experiments import run_experiment
from intriguing.fetch import Remote

torch = pytest.importorskip("torch")
CLASSES = ("n01440764", "n03888257")  # tench, parachute
NUM = 3  # photographs of each


def weights_file() -> bytes:
    """A SqueezeNet by torchvision's names that calls everything a tench, and nearly an ostrich."""
    about = models.PRETRAINED["squeezenet"]
    theirs = {ours: name for name, ours in about.names.items()}
    images = jax.ShapeDtypeStruct((1, *about.image_shape), np.float32)
    shapes = jax.eval_shape(about.build().init, jax.random.key(0), images)["params"]
    rng, tensors = np.random.default_rng(0), {}
    for layer, arrays in shapes.items():
        kernel = 0.1 * rng.normal(size=arrays["kernel"].shape)
        bias = np.zeros(arrays["bias"].shape)
        if layer == "conv10":
            kernel, bias = 0.03 * kernel, bias + 1
            bias[0], bias[9] = 2.0, 1.99
        tensors[f"{theirs[layer]}.weight"] = torch.tensor(kernel.transpose(3, 2, 0, 1)).float()
        tensors[f"{theirs[layer]}.bias"] = torch.tensor(bias).float()
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def photographs() -> bytes:
    """Imagenette's archive, with names in it that would leave the folder."""
    rng, buffer = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for label in CLASSES:
            for number in range(NUM):
                for part, name in (("val", f"{label}_{number}.JPEG"), ("train", "x.JPEG")):
                    picture = io.BytesIO()
                    pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                    Image.fromarray(pixels).resize((170, 160)).save(picture, "JPEG")
                    info = tarfile.TarInfo(f"imagenette2-160/{part}/{label}/{name}")
                    info.size = len(picture.getvalue())
                    tar.addfile(info, io.BytesIO(picture.getvalue()))
        for name in ("imagenette2-160/val/../../../evil.JPEG", "/evil.JPEG"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    return buffer.getvalue()


class Files(Handler):
    def do_GET(self):
        content = self.server.files[self.path.removeprefix("/")]
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = Server()
    server.RequestHandlerClass = Files
    server.files = {"net.pth": weights_file(), "photographs.tgz": photographs()}
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def remote(name):
        content = server.files[name]
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        return Remote(url, hashlib.sha256(content).hexdigest()[:8], len(content))

    monkeypatch.setenv("INTRIGUING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INTRIGUING_DATA", raising=False)
    monkeypatch.setattr(imagenet_attack, "DATA", "")
    monkeypatch.setattr(published, "IMAGENETTE", remote("photographs.tgz"))
    known = models.PRETRAINED["squeezenet"]._replace(published=remote("net.pth"))
    monkeypatch.setitem(models.PRETRAINED, "squeezenet", known)
    yield server
    server.shutdown()
    server.server_close()


def make_config():
    config = imagenet_attack.get_config("squeezenet")
    config.data.image_size, config.attack.num_images, config.attack.budget = 64, 2, 30
    return config


@pytest.mark.slow
def test_the_command_alone_is_enough(server, tmp_path):
    run_experiment(make_config(), tmp_path / "run")
    assert server.asked == ["/photographs.tgz", "/net.pth"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "run" / "figures" / "figure5_squeezenet.png").is_file()
    found = dict(np.load(next((tmp_path / "run" / "results" / "squeezenet").rglob("*.npz"))))
    assert found["labels"].tolist() == [0, 0]  # tench is ImageNet's class 0
    assert (found["target_labels"] == 9).all() and found["success"].all()
    cached = {p.relative_to(fetch.cache_dir()).as_posix() for p in
              fetch.cache_dir().rglob("*") if p.suffix in (".JPEG", ".pth", ".tgz")}  # fmt: skip
    assert len(cached) == 2 + 2 * NUM and not list(tmp_path.rglob("evil*"))
    server.files.clear()  # the second run asks for nothing
    run_experiment(make_config(), tmp_path / "again")
    assert len(server.asked) == 2


def test_download_false_fetches_nothing(server, tmp_path):
    config = make_config()
    config.data.download = False
    with pytest.raises(InputError, match=r"INTRIGUING_DATA|download is off"):
        run_experiment(config, tmp_path / "run")
    assert not server.asked


def test_a_network_that_nobody_publishes(server, tmp_path):
    config = make_config()
    config.models.squeezenet.architecture = "alexnet"
    with pytest.raises(InputError, match=r"no published weights.*random.*train"):
        run_experiment(config, tmp_path / "run")


def test_training_needs_a_folder_and_more_than_one_image_per_class(server, tmp_path):
    config = make_config()
    config.models.squeezenet.weights = "train"
    with pytest.raises(InputError, match="needs a folder of images"):
        run_experiment(config, tmp_path / "run")
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / label / "1.png")
    config.data.dir = str(tmp_path / "photos")
    with pytest.raises(InputError, match="one image each"):
        run_experiment(config, tmp_path / "run2")


def test_classes_that_are_not_the_networks(server, tmp_path):
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / label / "1.png")
    config = make_config()
    config.data.dir = str(tmp_path / "photos")
    with pytest.raises(InputError, match=r"2 classes \(ant to bee\), and the network has 1000"):
        run_experiment(config, tmp_path / "run")


def test_wordnet_ids_are_imagenets_numbers():
    ids = imagenet.wordnet_ids()
    assert len(ids) == 1000 and ids == sorted(ids)
    assert [ids.index(name) for name in (*CLASSES, "n01518878")] == [0, 701, 9]
