"""Client certificates that are old, revoked, of somebody else's authority or of nobody; and halves of a way in.

The model `faces` asks for a certificate and a key, both of the same client.
"""

from attacks.gateway.exchange import CLOSED
from attacks.gateway.rows.row import KEY, Presented, Row, post

IN_THE_HANDSHAKE = (
    "stolen", "expired", "future", "for servers", "of an authority below", "of another authority",
    "of an authority of the same name",
)  # fmt: skip
OF_NOBODY = (
    "demo.example", "of nobody", "of everybody", "of a longer name", "of a name below", "of a name in another case",
    "of a longer URI", "of two clients",
)  # fmt: skip
FORWARDED = 'x-forwarded-client-cert: URI=spiffe://bank/demo;DNS=demo.example;Subject="CN=demo.example"'
FACES = "/predictions/faces"


def list_rows() -> list[Row]:
    """List certificates first, then what stands beside them, then halves."""
    plain = post(key=None)
    twin = Presented(plain, "demo")
    both = Presented(post(path=FACES, key="x-api-key: <faces>"), "demo")
    return [
        *(Row(name, Presented(plain, name), CLOSED, twin) for name in IN_THE_HANDSHAKE),
        *(Row(name, Presented(plain, name), 403, twin) for name in OF_NOBODY),
        Row("no certificate", plain, 401, twin),
        Row("a certificate in a header", post(FORWARDED, key=None), 401, Presented(post(FORWARDED, key=None), "demo")),
        Row("a bad key beside it", Presented(post(key="x-api-key: <another signer>"), "demo"), 401, twin),
        Row("a stolen key beside it", Presented(post(key="x-api-key: <stolen>"), "demo"), 401, twin),
        Row("a key of another client beside it", Presented(post(), "neighbour"), 403, Presented(post(), "demo")),
        Row(
            "a token of another client beside it",
            Presented(post(key="authorization: Bearer <token>"), "neighbour"),
            403,
            Presented(post(key="authorization: Bearer <token>"), "demo"),
        ),
        Row("half: the certificate", Presented(post(path=FACES, key=None), "demo"), 401, both),
        Row("half: the key", post(path=FACES, key="x-api-key: <faces>"), 401, both),
        Row(
            "half: a token in place of the key",
            Presented(post(path=FACES, key="authorization: Bearer <token>"), "demo"),
            401,
            both,
        ),
        Row("halves of two clients", Presented(post(path=FACES, key="x-api-key: <faces>"), "neighbour"), 403, both),
        Row("half of nobody", Presented(post(path=FACES, key="x-api-key: <faces>"), "of nobody"), 403, both),
        Row("the key's half is for another model", Presented(post(path=FACES, key=KEY), "demo"), 403, both),
        Row("the key's half is expired", Presented(post(path=FACES, key="x-api-key: <expired>"), "demo"), 401, both),
        Row(
            "the certificate's half is stolen",
            Presented(post(path=FACES, key="x-api-key: <faces>"), "stolen"),
            CLOSED,
            both,
        ),
    ]
