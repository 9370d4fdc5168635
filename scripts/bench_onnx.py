"""Exported networks in ONNX Runtime beside the integer reference: CIFAR-10's test images, the published weights.

    python -m scripts.bench_onnx [--images 1000] [--data-root FOLDER] [--networks resnet8-w4a8 FILE ...] [--json]

NAME-wWaA is a network of the registry at W-bit weights and A-bit activations (its first and last layer at 8 bits),
NAME-float32 the baseline. Steps are calibrated on 256 training images, without training; MobileNetV2, of which there
are no published weights, has random ones. FILE is the subnet.safetensors of a search on CIFAR-10. Printed per
network, each figure with ONNX Runtime's fused kernels and without any of its rewriting:
    codes    largest difference of an operator's output, in codes, given the reference's inputs; at most 1 is asked
    share    of the codes that differ, in the operator where it is largest
    top-1    share of the images whose best class is the reference's; 99.9 % is asked
    integer  operators with weights that run as integer kernels, of all with weights
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from deploy.lower import lower
from deploy.onnx_check import compare, integer_share, kernels
from deploy.onnx_export import to_onnx
from deploy.program import Program
from lut.cli import guard
from lut.errors import InputError
from scripts.bench_exactness import randomise
from search.data import Dataset, load
from supernet import SearchSpace, Supernet, extract, load_subnet
from supernet.networks import NETWORKS, pretrained
from supernet.networks.weights import CHECKPOINTS

DEFAULT = (
    "resnet8-w8a8", "resnet8-w4a8", "resnet8-w2a8", "resnet8-w4a4", "resnet8-float32",
    "resnet20-w8a8", "resnet20-w4a8", "mobilenet_v2-w8a8", "mobilenet_v2-float32",
)  # fmt: skip
CALIBRATION = 256


@dataclass(frozen=True)
class Result:
    """One network. codes, share, top1: with fused kernels and without."""

    network: str
    opset: int
    bytes: int
    codes: tuple[int, int]
    share: tuple[float, float]
    top1: tuple[float, float]
    integer: str
    layers: list[dict[str, object]]
    kernels: dict[str, int]


def program_of(network: str, root: Path | None) -> tuple[Program, np.ndarray]:
    """(the lowered network, CIFAR-10's test images as uint8 NHWC). InputError for a name that is none."""
    if network.endswith(".safetensors"):
        return lower(load_subnet(network), Path(network).stem), images_of(load("cifar10", root))
    form = re.fullmatch(r"(\w+)-(?:w([1-8])a([1-8])|float32)", network)
    if form is None or form[1] not in NETWORKS:
        raise InputError(
            f"--networks: {network!r}; expected NAME-wWaA or NAME-float32, NAME of {', '.join(NETWORKS)}, or a subnet's"
            " .safetensors"
        )
    data = load("cifar10", root)
    torch.manual_seed(0)
    if form[1] in CHECKPOINTS:
        model, normalisation = pretrained(form[1], root)
        data = data.normalised(normalisation.mean, normalisation.std)
    else:
        model = randomise(NETWORKS[form[1]](num_classes=10, in_channels=3, image_size=(32, 32)))
    bits = (int(form[2]), int(form[3])) if form[2] else (32, 32)
    x = next(iter(data.batches("train", CALIBRATION)))[0].contiguous()
    space = SearchSpace((bits[0],), (bits[1],), (1.0,))
    net = Supernet.from_model(model, x, space, torch.tensor(data.mean), torch.tensor(data.std)).eval()
    return lower(extract(net, net.arch()), network), images_of(data)


def images_of(data: Dataset) -> np.ndarray:
    """The test images as uint8 NHWC."""
    return data.test[0].permute(0, 2, 3, 1).contiguous().numpy()


def measure(network: str, count: int, root: Path | None) -> Result:
    program, images = program_of(network, root)
    model = to_onnx(program)
    found = [compare(program, model, images[:count], optimise, network) for optimise in (True, False)]
    ran = kernels(model)
    layers = [asdict(layer) for layer in found[0].layers]
    return Result(
        network, model.opset_import[0].version, model.ByteSize(),
        (found[0].largest, found[1].largest), (found[0].share, found[1].share), (found[0].top1, found[1].top1),
        "{} of {}".format(*integer_share(program, ran)), layers, ran,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(DEFAULT), metavar="NAME")
    parser.add_argument("--images", type=int, default=1000, help="test images (%(default)s)")
    parser.add_argument("--data-root", type=Path, help="folder of CIFAR-10; else LUTIER_DATA")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, operators and kernels included")
    args = parser.parse_args(arguments)

    def start() -> int:
        rows = []
        if not args.json:
            print(f"{'network':<22}{'opset':>6}{'bytes':>10}{'codes':>8}{'share':>18}{'top-1':>20}{'integer':>11}")
        for network in args.networks:
            row = measure(network, args.images, args.data_root)
            rows.append(row)
            if not args.json:
                codes = "{} / {}".format(*row.codes)
                share, top1 = ("{:.3%} / {:.3%}".format(*pair) for pair in (row.share, row.top1))
                print(
                    f"{row.network:<22}{row.opset:>6}{row.bytes:>10}{codes:>8}{share:>18}{top1:>20}{row.integer:>11}",
                    flush=True,
                )
        if args.json:
            print(json.dumps({"images": args.images, "rows": [asdict(row) for row in rows]}, indent=1))
        return 0

    return guard(start)


if __name__ == "__main__":
    sys.exit(main())
