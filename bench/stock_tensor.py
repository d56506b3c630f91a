"""What people write for tensors on stock TorchServe, which has no handler for them: its base handler, a JSON list."""

from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler


class TensorHandler(BaseHandler):  # type: ignore[misc]  # TorchServe has no types
    """Serve a model of plain tensors."""

    def preprocess(self, data: list[dict[str, Any]]) -> torch.Tensor:
        """Stack the requests' lists of numbers."""
        return torch.tensor([row["body"]["data"] for row in data], device=self.device)

    def postprocess(self, data: torch.Tensor) -> list[Any]:
        """Answer each request with its list of numbers."""
        answers: list[Any] = data.tolist()
        return answers
