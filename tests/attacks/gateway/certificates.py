"""Client certificates: one that is good, and every way in which another is not."""

from datetime import timedelta
from pathlib import Path

from stack.authorities import SERVER, make_authority

CERTIFICATES = "certificates"
NAME = "demo.example"
HOUR = timedelta(hours=1)


def write_certificates(directory: Path) -> None:
    """Write whom the gateway believes, what that authority has revoked, and a file for each certificate."""
    place = directory / CERTIFICATES
    place.mkdir()
    root = make_authority("clients")
    root.issue(place / "demo.pem", NAME)
    root.issue(place / "neighbour.pem", "neighbour.example")
    stolen = root.issue(place / "stolen.pem", NAME)
    (directory / "clients.pem").write_bytes(root.pem())
    (directory / "revoked.pem").write_bytes(root.revoke(stolen))

    root.issue(place / "expired.pem", NAME, ends=-HOUR)
    root.issue(place / "future.pem", NAME, begins=HOUR)
    root.issue(place / "for servers.pem", NAME, usage=SERVER)
    root.below("below").issue(place / "of an authority below.pem", NAME)
    make_authority("others").issue(place / "of another authority.pem", NAME)
    make_authority("clients").issue(place / "of an authority of the same name.pem", NAME)

    root.issue(place / f"{NAME}.pem")  # no name but the subject's, which counts no more since RFC 2818
    root.issue(place / "of nobody.pem", "unknown.example")
    root.issue(place / "of everybody.pem", "*.example")
    root.issue(place / "of a longer name.pem", f"{NAME}.evil.example")
    root.issue(place / "of a name below.pem", f"evil.{NAME}")
    root.issue(place / "of a name in another case.pem", "spiffe://bank/DEMO")
    root.issue(place / "of a longer URI.pem", "spiffe://bank/demo/x")
    root.issue(place / "of two clients.pem", NAME, "neighbour.example")
