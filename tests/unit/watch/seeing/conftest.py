"""A Prometheus that knows a day of Garrison, and pages that a metrics listener could serve."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.watch.seeing.asking import Site
from replayed import open_prometheus


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A real Prometheus with a made-up day that ends now."""
    with open_prometheus(tmp_path_factory.mktemp("day")) as site:
        yield site


@pytest.fixture
def serve_pages() -> Iterator[Callable[..., Site]]:
    """Serve pages by their paths, on a port of their own; each may be several, one after another."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(pages: dict[str, list[str]], status: int = 200) -> Site:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = pages.get(self.path.partition("?")[0])
                text = "" if found is None else found.pop(0) if len(found) > 1 else found[0]
                self.send_response(404 if found is None else status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return Site("http", "127.0.0.1", server.server_port)

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hostile() -> str:
    """What somebody may call something, to take over who looks at it."""
    return '\x1b]0;x\x07\x1b[2J</script><script>alert(1)</script>[red]"&'


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    """Where a report is written."""
    return tmp_path / "report.html"
