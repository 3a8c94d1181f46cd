"""Networks by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.networks.resnet34 import ResNet34, ResNet34Options
from SemiSupSegLib.networks.transaspp import TransASPPOptions, TransASPPUNet
from SemiSupSegLib.networks.unet3d import UNet3D, UNet3DOptions
from SemiSupSegLib.networks.vnet import VNet, VNetOptions
from SemiSupSegLib.options import from_json, to_json

NETWORKS: dict[str, tuple[type[Any], type[Any]]] = {
    "transaspp": (TransASPPOptions, TransASPPUNet),
    "vnet": (VNetOptions, VNet),
    "unet3d": (UNet3DOptions, UNet3D),
    "resnet34": (ResNet34Options, ResNet34),
}
"""Name → options dataclass and network."""


def build_network(
    name: str, options: Mapping[str, Any], *, in_channels: int, num_classes: int
) -> SegmentationNetwork:
    """Return a new network, its weights drawn from torch's global generator.

    Args:
        name: A key of `NETWORKS`.
        options: Fields of its options dataclass, as JSON values; missing ones take the default.
        in_channels: Channels of the image.
        num_classes: Classes, background included.

    Raises:
        UsageError: For an unknown name or option, or a value out of range.
    """
    options_class, network_class = _entry(name)
    chosen = from_json(options_class, options, f"network '{name}'")
    network: SegmentationNetwork = network_class(
        chosen, in_channels=in_channels, num_classes=num_classes
    )
    return network


def full_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's options with the defaults of those that are not given, as JSON values.

    Raises:
        UsageError: For an unknown name or option, or a value out of range.
    """
    options_class, _ = _entry(name)
    return to_json(from_json(options_class, options, f"network '{name}'"))


def _entry(name: str) -> tuple[type[Any], type[Any]]:
    if name in NETWORKS:
        return NETWORKS[name]
    near = difflib.get_close_matches(name, NETWORKS, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"There is no network '{name}'.{hint} There are: {', '.join(NETWORKS)}.")
