"""The store: it counts its starts in a file of its volume, and answers who knows the password."""

import http.server
import os
import pathlib

STARTS = pathlib.Path("/data/starts")
starts = int(STARTS.read_text()) + 1 if STARTS.exists() else 1
STARTS.write_text(str(starts))
pathlib.Path("/tmp/written").touch()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/healthz" or self.headers.get("Authorization") == f"Bearer {os.environ['PASSWORD']}"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(f"{os.environ['GREETING']} {starts} uid={os.getuid()}\n".encode())


http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
