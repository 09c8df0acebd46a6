"""Networks in PyTorch's own functions, that tests compare ours with."""


def resnet(tensors, x):
    """A ResNet of `tensors` in PyTorch's functions, batch normalisation and all."""
    import torch
    from torch.nn import functional as F

    state = {name: torch.tensor(array) for name, array in tensors.items()}

    def conv_norm(x, conv, norm, stride=1):
        x = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=1)
        return F.batch_norm(x, *(state[f"{norm}.{part}"] for part in (
            "running_mean", "running_var", "weight", "bias")))  # fmt: skip

    x = F.relu(conv_norm(x, "conv1", "bn1"))
    blocks = sorted({name.rsplit(".", 2)[0] for name in state if name.startswith("layer")})
    for block in blocks:
        stride = 2 if block in ("layer2.0", "layer3.0") else 1
        inner = F.relu(conv_norm(x, f"{block}.conv1", f"{block}.bn1", stride))
        inner = conv_norm(inner, f"{block}.conv2", f"{block}.bn2")
        if stride > 1:
            more = inner.shape[1] - x.shape[1]
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more // 2, more // 2))
        x = F.relu(inner + x)
    return F.linear(x.mean(dim=(2, 3)), state["linear.weight"], state["linear.bias"])
