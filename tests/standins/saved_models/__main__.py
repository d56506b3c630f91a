"""Write all SavedModels into a directory, and what TensorFlow says of its messages."""

import sys
from pathlib import Path


def main() -> int:
    """Write them, and say how many."""
    from standins.saved_models import descriptors, graphs, numbers, pictures, sequences, words

    (directory,) = sys.argv[1:]
    for module in (numbers, pictures, words, sequences, graphs):
        module.save_all(directory)
    descriptors.write(Path(directory) / "descriptors.json")
    return 0 if len(list(Path(directory).glob("*/1/saved_model.pb"))) else 1


if __name__ == "__main__":
    sys.exit(main())
