"""torchvision's GoogLeNet: weights by its names give the logits of the same network in PyTorch."""

import numpy as np
import pytest

from intriguing import models
from intriguing.models import import_weights
from intriguing.models.googlenet import INCEPTIONS

torch = pytest.importorskip("torch")
nn, relu = torch.nn, torch.nn.functional.relu


class BasicConv2d(nn.Module):
    def __init__(self, below, features, window, **options):
        super().__init__()
        self.conv = nn.Conv2d(below, features, window, bias=False, **options)
        self.bn = nn.BatchNorm2d(features, eps=0.001)

    def forward(self, x):
        return relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, below, one, three_reduce, three, five_reduce, five, projected):
        super().__init__()
        self.branch1 = BasicConv2d(below, one, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(below, three_reduce, 1), BasicConv2d(three_reduce, three, 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(below, five_reduce, 1), BasicConv2d(five_reduce, five, 3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(below, projected, 1)
        )

    def forward(self, x):
        return torch.cat([f(x) for f in (self.branch1, self.branch2, self.branch3, self.branch4)],
                         dim=1)  # fmt: skip


class GoogLeNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = BasicConv2d(3, 64, 7, stride=2, padding=3)
        self.conv2, self.conv3 = BasicConv2d(64, 64, 1), BasicConv2d(64, 192, 3, padding=1)
        below = 192
        for block, sizes in INCEPTIONS.items():
            setattr(self, f"inception{block}", Inception(below, *sizes))
            below = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        self.aux1, self.fc = BasicConv2d(512, 128, 1), nn.Linear(1024, num_classes)

    def forward(self, x):
        def pool(x):
            return nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)

        x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        for block in INCEPTIONS:
            x = getattr(self, f"inception{block}")(x)
            x = pool(x) if block == "3b" else x
            x = nn.functional.max_pool2d(x, 2, 2, ceil_mode=True) if block == "4e" else x
        return self.fc(x.mean(dim=(2, 3)))


def test_logits_are_those_of_pytorch(tmp_path):
    torch.manual_seed(0)
    net = GoogLeNet(num_classes=20).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.05, 0.2)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    found = import_weights.load(tmp_path / "net.pth", "googlenet_torchvision")
    images = np.random.default_rng(0).uniform(size=(2, *found.image_shape)).astype(np.float32)
    logits = models.logits_fn(found.model, {"params": found.params})(images)
    with torch.no_grad():  # pixels from -1 to 1: what torchvision makes of those it is given
        expected = net(torch.from_numpy(images.transpose(0, 3, 1, 2)) * 2 - 1).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max() * 10)
