"""Bodies for parsers that should never see them: forms, compression bombs, and more than a model takes.

TorchServe's parser of forms takes seconds for 2 MB; a bomb of any compression grows a thousandfold and more.
"""

import gzip
import zlib

from attacks.gateway.rows.row import Row, ask, chunks, post

LIMIT = 64 * 1024
ZEROS = bytes(16 * 2**20)
# These two libraries are not here. Brotli's own wrote the zeros so; zstd can be told to repeat one 2^17 times.
BROTLI_BOMB = bytes.fromhex("cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefddf")
ZSTD_BOMB = b"\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x01" + b"\x02\x00\x10\x00" * 127 + b"\x03\x00\x10\x00"
DISPOSITION = b'content-disposition: form-data; name="data"\r\n\r\n'
TYPES = {
    "form": ["application/x-www-form-urlencoded"],
    "form in capitals": ["APPLICATION/X-WWW-FORM-URLENCODED"],
    "form with a parameter": ["application/x-www-form-urlencoded; charset=utf-8"],
    "form behind a tab": ["application/x-www-form-urlencoded\t;a=b"],
    "other multipart": ["multipart/mixed; boundary=b"],
    "related multipart": ["multipart/related; boundary=b"],
    "form-data and more": ["multipart/form-dataX; boundary=b"],
    "two types in one": ["image/png, multipart/form-data; boundary=b"],
    "two types in a parameter": ["image/png; a=b, multipart/form-data"],
    "two types": ["image/png", "multipart/form-data; boundary=b"],
    "no type": ["nonsense"],
    "empty type": [""],
    "a message": ["message/http"],
    "a model": ["model/x"],
}
PARTS = {
    "two fields": b"--b\r\n" + DISPOSITION + b"x\r\n--b\r\n" + DISPOSITION + b"y\r\n--b--\r\n",
    "another field": b"--b\r\n" + DISPOSITION.replace(b'data"', b'file"') + b"x\r\n--b--\r\n",
    "bare LF": (b"--b\r\n" + DISPOSITION + b"x\r\n--b--\r\n").replace(b"\r\n", b"\n"),
    "no end": b"--b\r\n" + DISPOSITION + b"x",
    "an encoding": b"--b\r\ncontent-transfer-encoding: base64\r\n" + DISPOSITION + b"eA==\r\n--b--\r\n",
    "a thousand fields": (b"--b\r\n" + DISPOSITION + b"\r\n") * 1000 + b"--b--\r\n",
}
CODINGS = {
    "gzip": gzip.compress(ZEROS),
    "x-gzip": gzip.compress(ZEROS),
    "GZIP": gzip.compress(ZEROS),
    "deflate": zlib.compress(ZEROS),
    "br": BROTLI_BOMB,
    "zstd": ZSTD_BOMB,
    "compress": b"\x1f\x9d\x90",
    "dcb": b"x",
    "gzip, gzip": gzip.compress(gzip.compress(ZEROS)),
    "identity, gzip": gzip.compress(ZEROS),
    "gzip, identity": gzip.compress(ZEROS),
    "nonsense": b"x",
}


def list_rows() -> list[Row]:
    """List types, forms, compressions and sizes."""
    form = b"--b\r\n" + DISPOSITION + b"x\r\n--b--\r\n"
    multipart = "content-type: multipart/form-data; boundary=b"
    endless = chunks(*[bytes(0x4000)] * 5, end=b"")
    return [
        *(
            Row(
                name,
                post(*(f"content-type: {kind}" for kind in kinds), body=b"a&a&a"),
                415,
                post("content-type: image/png"),
            )
            for name, kinds in TYPES.items()
        ),
        *(
            Row(f"form: {name}", post(multipart, body=body), 415, post(multipart, body=form))
            for name, body in PARTS.items()
        ),
        *(
            Row(
                f"compressed: {name}",
                post(f"content-encoding: {name}", body=body),
                415,
                post("content-encoding: identity"),
            )
            for name, body in CODINGS.items()
        ),
        Row(
            "compressed: two lines",
            post("content-encoding: identity", "content-encoding: gzip"),
            415,
            post("content-encoding: identity"),
        ),
        Row(
            "compressed by HTTP/2",
            ask(("content-encoding", "gzip"), body=gzip.compress(ZEROS)),
            415,
            ask(("content-encoding", "identity")),
        ),
        Row("a byte too much", post(body=bytes(LIMIT + 1)), 413, post(body=bytes(LIMIT))),
        Row(
            "too much without an end",
            post(framing="transfer-encoding: chunked", body=endless),
            413,
            post(framing="transfer-encoding: chunked", body=chunks(bytes(0x4000))),
        ),
    ]
