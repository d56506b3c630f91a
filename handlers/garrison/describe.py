"""Say what a contract promises, to a client: a contract enters, plain values or plain words leave."""

from typing import Any

from garrison.contract import Contract, ImageInput


def describe_contract(contract: Contract) -> dict[str, Any]:
    """Return what a client needs to know, as values for JSON."""
    return {
        "model": contract.model,
        "version": contract.version,
        "task": contract.task,
        "request": {
            "method": "POST",
            "path": f"/predictions/{contract.model}",
            "max_body_bytes": contract.max_body_bytes,
        },
        "inputs": {item.name: _describe_image(item) for item in contract.inputs},
        "answer": {
            "form": '{"label": score, ...}, the best first',
            "top_k": contract.outputs.top_k,
            "decimals": contract.outputs.decimals,
            "min_score": contract.outputs.min_score,
        },
        "timeout_s": contract.workers.timeout_s,
    }


def describe_in_words(contract: Contract) -> str:
    """Return the same as a page for a person, with a request to copy."""
    image = contract.inputs[0]
    treatment = (
        f"must be exactly {image.exact[1]} x {image.exact[0]} pixels"
        if image.exact
        else f"is scaled and cropped to {image.shape[1]} x {image.shape[0]} pixels"
    )
    forms = {"raw": "the image's bytes", "json": '{"data": "<base64>"}'}
    lines = [
        f"{contract.model}, version {contract.version}: {contract.task}",
        "",
        f"request   POST /predictions/{contract.model}, key in the header x-api-key",
        f"body      {' or '.join(forms[form] for form in image.forms)}",
        f"image     {' or '.join(image.formats)}, at most {image.max_bytes:,} bytes",
        f"          each side {image.min_side_pixels:,} to {image.max_side_pixels:,} pixels, "
        f"at most {image.max_pixels:,} pixels and {image.max_frames} frame(s)",
        f"          becomes {image.colour}, {treatment}",
        f"answer    the {contract.outputs.top_k} best labels with scores, {contract.outputs.decimals} decimals, "
        f"scores of at least {contract.outputs.min_score}",
        f"time      at most {contract.workers.timeout_s} s",
        "",
        f'example   curl -X POST -T image.{image.formats[0]} -H "x-api-key: $KEY" https://HOST/predictions/{contract.model}',
    ]
    return "\n".join(lines)


def _describe_image(image: ImageInput) -> dict[str, Any]:
    return {
        "kind": "image",
        "formats": list(image.formats),
        "forms": list(image.forms),
        "max_bytes": image.max_bytes,
        "min_side": image.min_side_pixels,
        "max_side": image.max_side_pixels,
        "max_pixels": image.max_pixels,
        "max_frames": image.max_frames,
        "colour": image.colour,
        "shape": list(image.shape),
        "resized": image.resize is not None,
    }
