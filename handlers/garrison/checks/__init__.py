"""Checks of what a client sends: bytes enter, what the contract promises to the model or `Refused` comes out.

Pure functions: no files, no clock, no environment, no logging. The worker and `garrison check` both call
`read_request`, so what one accepts the other accepts.

    request     the body and its forms: raw, {"data": X}, KServe v1 and v2 (`kserve`)
    json_text   JSON at a bounded cost
    values      one value of one input, in whatever form it comes
    image       pictures, with `formats`; tensor, with `npy` and `nested`; text; table
    reasons     every reason for a refusal

It does not defend against a flaw inside a decoder (the cell around the worker does), and it does not judge what a
picture shows or a text says.
"""

from garrison.checks.request import Item, Request, present_answers, read_request

__all__ = ["Item", "Request", "present_answers", "read_request"]
