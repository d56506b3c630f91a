"""What the image tasks share: uint8 pixels enter on the device, what the network was trained on leaves."""

import logging
import warnings

import torch

from garrison.archive import PackedModel
from garrison.contract import Contract, ImageInput
from garrison.errors import ConfigError
from garrison.torchserve.weights import Model, load_weights

log = logging.getLogger("garrison.contract")


class Normaliser:
    """Map uint8 (items, height, width, channels) to float32 (items, channels, height, width), by mean and deviation.

    Pixels travel to the device as uint8, a quarter of the bytes, and are scaled there.
    """

    def __init__(self, image: ImageInput, device: torch.device) -> None:
        # (p / 255 - mean) / std in one multiplication and one addition, over whole rows of pixels: with three values
        # in its innermost dimension the same arithmetic takes several times as long.
        mean, std = torch.tensor(image.mean, dtype=torch.float64), torch.tensor(image.std, dtype=torch.float64)
        width = image.shape[1]
        self._factor = (1 / (255 * std)).float().to(device).repeat(width)
        self._offset = (-mean / std).float().to(device).repeat(width)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the normalised pixels, laid out with the channels last as they came: convolutions prefer it."""
        items, height, width, channels = pixels.shape
        rows = pixels.reshape(items, height, width * channels).float().mul_(self._factor).add_(self._offset)
        return rows.view(items, height, width, channels).permute(0, 3, 1, 2)


def load_network(model: PackedModel, device: torch.device) -> Model:
    """Load a packed network for pictures, its weights laid out as the pictures are, channels last.

    One that cannot run like that is loaded as it was packed.

    Raises:
        ConfigError: as for `load_weights`.
    """
    network = load_weights(model, device)
    if not isinstance(network, torch.nn.Module):
        return network
    image = only_image(model.contract)
    blank = Normaliser(image, device)(torch.zeros(1, *image.shape, dtype=torch.uint8, device=device))
    try:
        faster = _lay_out(network)
        with torch.inference_mode():
            faster(blank)
        return faster
    except Exception as error:  # noqa: BLE001 - views of its weights, five dimensions, a program that trains
        log.info("the network runs as it was packed: %s", str(error)[:300])
        return load_weights(model, device)


def _lay_out(network: torch.nn.Module) -> torch.nn.Module:
    """Put the channels last and, in TorchScript, fold batch normalisation into the convolutions before it."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not isinstance(network, torch.jit.ScriptModule):
        return network
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
        frozen: torch.nn.Module = torch.jit.freeze(network)
        return frozen


def only_image(contract: Contract) -> ImageInput:
    """Return the one image input of a contract.

    Raises:
        ConfigError: the first input is of another kind.
    """
    image = contract.inputs[0]
    if not isinstance(image, ImageInput):
        raise ConfigError(f"inputs.{image.name}: this handler needs an image")
    return image
