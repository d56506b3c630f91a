"""What the image tasks share: uint8 pixels enter on the device, what the network was trained on leaves."""

import torch

from garrison.contract import Contract, ImageInput
from garrison.errors import ConfigError


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


def only_image(contract: Contract) -> ImageInput:
    """Return the one image input of a contract.

    Raises:
        ConfigError: the first input is of another kind.
    """
    image = contract.inputs[0]
    if not isinstance(image, ImageInput):
        raise ConfigError(f"inputs.{image.name}: this handler needs an image")
    return image
