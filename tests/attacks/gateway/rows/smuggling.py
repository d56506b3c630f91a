"""One request for the gateway, two for the server behind it: where a body ends is a matter of opinion.

`HIDDEN` is the request that only one of them would see. CL.TE, TE.CL and TE.TE are after Linhart et al. 2005 and Kettle
2019; malformed chunks after CVE-2015-3183 and many since; each twin has the same body, framed as RFC 9112 says.

What Envoy's parser reads generously (RFC 9112, 2.2, allows a bare LF) is in `READ_AS_ONE`: it goes through as one
request, written anew, and what a server could have taken for something else is gone.
"""

from attacks.gateway.rows.row import Row, chunks, post

HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: a\r\nx: "
CHUNKED = "transfer-encoding: chunked"
ONE_CHUNK = chunks(b"x")
TWIN = post(framing=CHUNKED, body=chunks(b"one", b"two"))
CODINGS = {
    "xchunked": "transfer-encoding: xchunked",
    "chunked in quotes": 'transfer-encoding: "chunked"',
    "chunked and identity": "transfer-encoding: chunked, identity",
    "identity and chunked": "transfer-encoding: identity, chunked",
    "chunked twice": "transfer-encoding: chunked, chunked",
    "gzip and chunked": "transfer-encoding: gzip, chunked",
    "two lines": f"{CHUNKED}\r\ntransfer-encoding: identity",
    "two lines, the other way round": f"transfer-encoding: identity\r\n{CHUNKED}",
    "identity": "transfer-encoding: identity",
    "empty": "transfer-encoding: ",
    "a comma": "transfer-encoding: chunked,",
    "a parameter": "transfer-encoding: chunked;q=1",
    "a vertical tab": "transfer-encoding: \x0bchunked",
    "a form feed": "transfer-encoding: chunked\x0c",
    "a NUL": "transfer-encoding: chunked\0",
    "space before the colon": "transfer-encoding : chunked",
    "an underscore": "transfer_encoding: chunked",
    "folded": "transfer-encoding:\r\n chunked",
    "behind a bare LF in the name": "x\ntransfer-encoding: chunked",
    "capital letter of another alphabet": "transfer-encoding: chun\xe1ed",
}
SIZES = {
    "hexadecimal": b"0x1\r\nx\r\n",
    "no digit": b"g\r\nx\r\n",
    "a digit and more": b"1g\r\nx\r\n",
    "nothing": b"\r\nx\r\n",
    "negative": b"-1\r\nx\r\n",
    "plus": b"+1\r\nx\r\n",
    "a space before": b" 1\r\nx\r\n",
    "more than 64 bits": b"10000000000000001\r\nx\r\n",
    "an underscore": b"1_0\r\n0123456789abcdef\r\n",
    "a bare LF": b"1\nx\r\n",
    "a bare CR": b"1\rx\r\n",
    "a NUL": b"1\0\r\nx\r\n",
    "a bare LF in an extension": b"1;a\nb\r\nx\r\n",
    "a bare CR in an extension": b"1;a\rb\r\nx\r\n",
}
LENGTHS = {
    "twice": "content-length: 1\r\ncontent-length: 1",
    "two": "content-length: 1\r\ncontent-length: 60",
    "two, the other way round": "content-length: 60\r\ncontent-length: 1",
    "a list": "content-length: 1, 1",
    "a list of two": "content-length: 1, 60",
    "plus": "content-length: +1",
    "negative": "content-length: -1",
    "hexadecimal": "content-length: 0x1",
    "exponent": "content-length: 1e0",
    "a fraction": "content-length: 1.0",
    "a space inside": "content-length: 1 0",
    "empty": "content-length: ",
    "text": "content-length: one",
    "an underscore": "content_length: 1",
    "more than 64 bits": "content-length: 18446744073709551617",
    "a NUL": "content-length: 1\0",
    "space before the colon": "content-length : 1",
}
LINES = {
    "NUL in a value": post("x: y\0"),
    "a control character in a value": post("x: \x01"),
    "NUL in what goes on": post("accept: a\0b"),
    "folded first": post().replace(b"\r\nhost", b"\r\n host"),
    "space in a name": post("x y: z"),
    "no colon": post("nonsense"),
    "version in small letters": post(version="http/1.1"),
    "version 1.10": post(version="HTTP/1.10"),
    "bytes that are no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
}
OLD_VERSIONS = {
    "HTTP/1.0": post(version="HTTP/1.0"),
    "HTTP/0.9": post().replace(b" HTTP/1.1", b""),
    "HTTP/9.9": post(version="HTTP/9.9"),
}
UNKNOWN_CODINGS = ("xchunked", "identity", "gzip and chunked", "chunked twice")
READ_AS_ONE = {
    "bare LF everywhere": (post(body=b"x").replace(b"\r\n", b"\n"), b"1.1\nhost"),
    "bare LF behind the request line": (post().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), b"1.1\nhost"),
    "bare LF behind a header": (post("x: y\nexplain: True"), b"\nexplain"),
    "bare LF at the end": (post().replace(b"\r\n\r\nx", b"\n\nx"), b"\n\nx"),
    "bare CR behind a header": (post("x: y\rexplain: True"), b"\rexplain"),
    "bare CR in what goes on": (post("accept: y\rexplain: True"), b"\rexplain"),
    "bare CR in a type": (post("content-type: image/png;\rexplain: True"), b"\rexplain"),
    "folded": (post("x: y\r\n explain: True"), b"\n explain"),
    "folded by a tab": (post("x: y\r\n\texplain: True"), b"\n\texplain"),
    "folded in what goes on": (post("accept: y\r\n explain: True"), b"\n explain"),
    "a folded length": (post(framing="content-length:\r\n 1"), b"\n 1"),
    "a length folded into another": (post("x: y\r\n content-length: 50"), b"\n content-length"),
    "a coding folded into another": (post("x: y\r\n transfer-encoding: chunked"), b"transfer-encoding"),
    "a coding behind a bare CR": (post("x: y\rtransfer-encoding: chunked"), b"transfer-encoding"),
    "two spaces in the request line": (post(method="POST "), b"post  /"),
    "a tab in the request line": (post().replace(b"POST ", b"POST\t"), b"post\t/"),
    "data longer than its chunk": (post(framing=CHUNKED, body=b"1\r\nxyz\r\n0\r\n\r\n"), b"xyz\r\n"),
    "no line end behind a chunk": (post(framing=CHUNKED, body=b"1\r\nx0\r\n0\r\n\r\n"), b"x0\r\n"),
    "a bare LF behind a chunk": (post(framing=CHUNKED, body=b"1\r\nx\n0\r\n\r\n"), b"x\n0"),
    "an extension of a chunk": (post(framing=CHUNKED, body=b"1;explain=True\r\nx\r\n0\r\n\r\n"), b"explain"),
    "a large extension of a chunk": (
        post(framing=CHUNKED, body=b"1;" + b"yz" * 50_000 + b"\r\nx\r\n0\r\n\r\n"),
        b"yzyz",
    ),
    "many extensions of a chunk": (
        post(framing=CHUNKED, body=b"1" + b";y=yz" * 25_000 + b"\r\nx\r\n0\r\n\r\n"),
        b";y=yz",
    ),
}


def list_rows() -> list[Row]:
    """List both lengths together, then each alone, then lines, then what is read as one."""
    both = f"content-length: {len(ONE_CHUNK + HIDDEN)}\r\n{CHUNKED}"
    short = b"3\r\nabc\r\n0\r\n\r\n"
    twice = f"content-length: {len(short)}\r\n"
    return [
        Row("CL.TE", post(framing=both, body=ONE_CHUNK + HIDDEN), 400, TWIN),
        Row("TE.CL", post(framing=f"{CHUNKED}\r\ncontent-length: 3", body=chunks(HIDDEN + b"\r\n\r\n")), 400, TWIN),
        Row("CL.0", post(framing=f"content-length: 0\r\n{CHUNKED}", body=short), 400, TWIN),
        *(Row(f"TE.TE: {name}", post(framing=twice + line, body=short), 400, TWIN) for name, line in CODINGS.items()),
        *(Row(f"TE: {name}", post(framing=CODINGS[name], body=short), 501, TWIN) for name in UNKNOWN_CODINGS),
        *(
            Row(f"chunk size: {name}", post(framing=CHUNKED, body=chunk + b"0\r\n\r\n"), 400, TWIN)
            for name, chunk in SIZES.items()
        ),
        *(Row(f"Content-Length: {name}", post(framing=line), 400, post()) for name, line in LENGTHS.items()),
        *(Row(f"lines: {name}", data, 400, post("x: y")) for name, data in LINES.items()),
        *(Row(name, data, 426, post()) for name, data in OLD_VERSIONS.items()),
        *(
            Row(f"read as one: {name}", data, 200, post("accept: */*"), (left,))
            for name, (data, left) in READ_AS_ONE.items()
        ),
    ]
