"""The LitServe application that is measured; started by `litserve_system`, not by hand."""

import io
import itertools
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import litserve
import numpy as np
import torch
from fastapi import Depends, Request
from PIL import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT_SIDE, CROP, TOP_K = 256, 224, 5


async def read_body(request: Request) -> bytes:
    """Give LitServe the body as it is."""
    return bytes(await request.body())


class ImageApi(litserve.LitAPI):  # type: ignore[misc]  # LitServe has no types
    """An image classifier with the preprocessing of stock's `image_classifier`."""

    directory: Path

    def setup(self, device: str) -> None:
        """Load the model and its labels."""
        torch.set_num_threads(1)
        self.model = torch.jit.load(str(self.directory / "model.pt")).eval()
        self.labels = json.loads((self.directory / "index_to_name.json").read_text())
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def decode_request(self, request: Annotated[bytes, Depends(read_body)]) -> torch.Tensor:
        """Turn a JPEG into the model's input."""
        picture = Image.open(io.BytesIO(request)).convert("RGB")
        scale = SHORT_SIDE / min(picture.size)
        picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BILINEAR)
        left, top = (picture.width - CROP) // 2, (picture.height - CROP) // 2
        pixels = np.asarray(picture.crop((left, top, left + CROP, top + CROP)))
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(255)
        return (tensor - self.mean) / self.std

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Stack the inputs."""
        return torch.stack(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Run the model; with batches of one LitServe gives a single input."""
        with torch.inference_mode():
            single = x.dim() == 3
            logits: torch.Tensor = self.model(x.unsqueeze(0) if single else x)
            return logits[0] if single else logits

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Take the answers apart."""
        return list(output)

    def encode_response(self, output: torch.Tensor) -> dict[str, float]:
        """Answer as stock does."""
        scores, classes = output.softmax(0).topk(TOP_K)
        return {self.labels[str(c)]: s for c, s in zip(classes.tolist(), scores.tolist(), strict=True)}


class TensorApi(litserve.LitAPI):  # type: ignore[misc]  # LitServe has no types
    """A model of plain tensors."""

    directory: Path

    def setup(self, device: str) -> None:
        """Load the model."""
        torch.set_num_threads(1)
        self.model = torch.jit.load(str(self.directory / "model.pt")).eval()

    def decode_request(self, request: Annotated[bytes, Depends(read_body)]) -> torch.Tensor:
        """Turn a list of numbers into the model's input."""
        return torch.tensor(json.loads(request)["data"])

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Stack the inputs."""
        return torch.stack(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Run the model."""
        with torch.inference_mode():
            output: torch.Tensor = self.model(x)
            return output

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Take the answers apart."""
        return list(output)

    def encode_response(self, output: torch.Tensor) -> list[float]:
        """Answer as stock does."""
        numbers: list[float] = output.tolist()
        return numbers


class TextApi(litserve.LitAPI):  # type: ignore[misc]  # LitServe has no types
    """A classifier of texts: words by blanks, all texts of a batch in one row with offsets."""

    directory: Path

    def setup(self, device: str) -> None:
        """Load the model, its vocabulary and its labels."""
        torch.set_num_threads(1)
        self.model = torch.jit.load(str(self.directory / "model.pt")).eval()
        self.labels = json.loads((self.directory / "index_to_name.json").read_text())
        self.numbers = json.loads((self.directory / "extra" / "vocabulary.json").read_text())

    def decode_request(self, request: Annotated[bytes, Depends(read_body)]) -> torch.Tensor:
        """Turn a text into the numbers of its words."""
        return torch.tensor([self.numbers.get(word, 0) for word in request.decode().lower().split()])

    def batch(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Keep the texts apart; they have different lengths."""
        return inputs

    def predict(self, texts: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """Run the model."""
        rows = [texts] if isinstance(texts, torch.Tensor) else texts
        offsets = torch.tensor([0, *itertools.accumulate(len(row) for row in rows[:-1])])
        with torch.inference_mode():
            output: torch.Tensor = self.model(torch.cat(rows), offsets)
            return output[0] if isinstance(texts, torch.Tensor) else output

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Take the answers apart."""
        return list(output)

    def encode_response(self, output: torch.Tensor) -> dict[str, float]:
        """Answer as stock does."""
        return {self.labels[str(c)]: s for c, s in enumerate(output.softmax(0).tolist())}


APIS: dict[str, Any] = {"image": ImageApi, "tensor": TensorApi, "text": TextApi}


def main() -> None:
    """Serve one kind of model until stopped."""
    kind, directory, port, workers, batch, delay_s = sys.argv[1:]
    size = {"max_batch_size": int(batch), "batch_timeout": float(delay_s)} if int(batch) > 1 else {}
    api = APIS[kind](**size)
    api.directory = Path(directory)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers), timeout=120)
    server.run(port=int(port), host="127.0.0.1", generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
