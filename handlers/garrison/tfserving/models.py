"""Name to TensorFlow Serving what it serves: contracts and a directory enter, its model config (text proto) leaves.

Each model has exactly one version, the one that was admitted last; nothing it finds on the disk besides is loaded. The
contracts' labels are the guard's to resolve: upstream refuses a label whose version is not loaded yet, as at the start.
Names and numbers are the contract's, which has no quotes.
"""

from collections.abc import Sequence
from pathlib import Path

from garrison.contract import Contract


def render_models(contracts: Sequence[Contract], directory: Path) -> str:
    """Return the model config for models that lie in `directory`/NAME/VERSION."""
    lines = ["model_config_list {"]
    for contract in sorted(contracts, key=lambda contract: contract.model):
        lines += [
            "  config {",
            f'    name: "{contract.model}"',
            f'    base_path: "{_escape(str(directory / contract.model))}"',
            '    model_platform: "tensorflow"',
            f"    model_version_policy {{ specific {{ versions: {contract.version} }} }}",
            "  }",
        ]
    return "\n".join([*lines, "}", ""])


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')
