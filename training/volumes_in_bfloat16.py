"""Does this processor's library compute 3-D convolutions in bfloat16 rightly?

oneDNN does not everywhere: on volumes of few slices it has been seen to read memory that nothing
was written to (results of 1e14, inf and NaN, other ones in each run), to crash and to hang. So the
check looks at every convolution of a network, at the sizes that it will have, in a process of its
own, which may crash; until it has passed, 3-D on a CPU is computed in float32.

    python -m training.volumes_in_bfloat16 unet3d 2 2 8 2 16 64 64    # network, batch, patch
"""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from networks import build
from training.devices import choose_amp
from utils import log

CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)
REPEATS = 3       # what lies in the memory differs from time to time
TOLERANCE = 0.02  # of a relative error; rounding alone gives 0.003
TIMEOUT = 120     # seconds; it takes about as long as ten training steps


def amp_of_volumes(name, device, architecture, patch, batch=1):
    """The autocast dtype of a network of volumes: `choose_amp`'s, or None where the check fails.

    Args:
        name, device: see choose_amp.
        architecture: arguments of networks.build: name, channels, classes, width.
        patch: slices, rows, columns.
        batch: patches of a step.
    """
    amp = choose_amp(name, device, dims=3)
    if amp != torch.bfloat16 or device.type != "cpu":
        return amp

    problem = problem_of_bfloat16(architecture, patch, batch)
    if problem:
        log("--amp bf16: computed in float32 instead, because 3-D convolutions in bfloat16 "
            f"{problem} on this processor")
        return None
    return amp


def problem_of_bfloat16(architecture, patch, batch, timeout=TIMEOUT):
    """What is wrong with the 3-D convolutions of a network, in words; None if they are right."""
    words = [sys.executable, "-m", "training.volumes_in_bfloat16",
             *map(str, [*architecture, batch, *patch])]
    try:
        result = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True,
                                text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"take longer than {timeout:g} s"
    if result.returncode < 0:
        return f"crash (signal {-result.returncode})"
    if result.returncode:
        return "are wrong (" + (result.stdout.strip().splitlines() or ["no reason given"])[-1] + ")"
    return None


# In the process of its own ------------------------------------------------------------------------

def first_wrong(network, channels, patch, batch):
    """The first convolution whose values or gradients are wrong, in words; None if there is none.

    Args:
        network: of volumes, on the CPU.
        channels: of its input.
        patch: slices, rows, columns.
        batch: patches of a step.
    """
    network.to(memory_format=torch.channels_last_3d)
    seen = set()
    for name, layer, shape in convolutions_of(network, torch.zeros(batch, channels, *patch)):
        key = (str(layer), shape)  # the text says channels, kernel, stride and padding
        if key not in seen:
            seen.add(key)
            for _ in range(REPEATS):
                error = largest_error(layer, shape)
                if not error <= TOLERANCE:
                    return f"{name} of {tuple(shape)}: relative error {error:.2g}"
    return None


def convolutions_of(network, images):
    """[(name, layer, shape of its input)] of a forward pass, in float32."""
    found, hooks = [], []
    for name, layer in network.named_modules():
        if isinstance(layer, CONVOLUTIONS):
            hooks.append(layer.register_forward_hook(
                lambda layer, inputs, _, name=name: found.append((name, layer, inputs[0].shape))))

    with torch.no_grad():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


def largest_error(layer, shape):
    """Largest relative error of a convolution in bfloat16 on random numbers: output, gradients."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, generator=generator).bfloat16().float()
    image = image.contiguous(memory_format=torch.channels_last_3d)

    found, exact = (outcome(layer, image, enabled) for enabled in (True, False))
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
    return max(errors) if all(error == error for error in errors) else float("nan")


def outcome(layer, image, autocast):
    """[output, gradient of the image, of the weight, of the bias if it has one], float32."""
    image = image.clone().requires_grad_()
    layer.zero_grad()
    fill_free_memory()

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = layer(image)
    size = output.numel()
    output.backward(torch.linspace(-1, 1, size, dtype=output.dtype).view(output.shape))

    found = [output, image.grad, *(parameter.grad for parameter in layer.parameters())]
    return [tensor.detach().float().clone() for tensor in found]


def fill_free_memory():
    """Leave large numbers in memory that is given out again, so that reading it shows."""
    blocks = [torch.full((2 ** size,), 1e14) for size in range(4, 22) for _ in range(3)]
    del blocks


def main(words):
    """Status 0 if the convolutions of this network are right, else 1 and a line about the first."""
    name, (channels, classes, width, batch, *patch) = words[0], map(int, words[1:])
    wrong = first_wrong(build(name, channels, classes, width), channels, patch, batch)
    if wrong:
        print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
