"""Ask digits_tf over TensorFlow Serving's REST, with `requests` alone.

    python models/digits_tf/client_rest.py --key-file .garrison/demo.key models/digits_tf/samples/7.jpg

A client of a bare TensorFlow Serving changes two things: the address, and that it sends its key as a header.
"""

import argparse
import base64
import sys
from pathlib import Path

import requests

MODEL = "digits_tf"
TIMEOUT_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Print a digit for every file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="images, PNG or JPEG")
    parser.add_argument("--address", default="localhost:8443", help="host and port (default: %(default)s)")
    parser.add_argument("--certificate", type=Path, default=Path(".garrison/certificates/ca.pem"))
    parser.add_argument("--key-file", type=Path, required=True, help="a file with your API key")
    options = parser.parse_args(arguments)

    rows = [{"image_bytes": {"b64": base64.b64encode(file.read_bytes()).decode()}} for file in options.files]
    answer = requests.post(
        f"https://{options.address}/v1/models/{MODEL}:predict",
        json={"signature_name": "images", "instances": rows},
        headers={"x-api-key": options.key_file.read_text().strip()},
        verify=str(options.certificate),
        timeout=TIMEOUT_S,
    )
    if not answer.ok:
        print(f"{answer.status_code}: {answer.text}", file=sys.stderr)
        return 1
    for file, row in zip(options.files, answer.json()["predictions"], strict=True):
        print(f"{file}: {row['digit']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
