"""A small API server in a pod, with nothing but the standard library: the kind Flunder of wardle.example.com/v1alpha1, whose objects are who asked for them."""

import http.server
import json
import ssl

GROUP, VERSION = "wardle.example.com", "v1alpha1"
BASE = f"/apis/{GROUP}/{VERSION}"
RESOURCE = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get", "list"]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.headers["Upgrade"]:
            self.echo()
            return
        if path == BASE:
            answer = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": [RESOURCE]}
        else:
            metadata = {"name": "who", "namespace": "default", "annotations": {"user": self.headers["X-Remote-User"]}}
            flunder = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": metadata}
            answer = {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"resourceVersion": "1"}, "items": [flunder]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def echo(self) -> None:
        """Change the protocol, and send back what comes, in capitals."""
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\nConnection: Upgrade\r\n\r\n")
        while line := self.rfile.readline():
            self.wfile.write(line.upper())
        self.close_connection = True


server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="/front/ca.crt")
context.verify_mode = ssl.CERT_REQUIRED  # whoever has no certificate of the front proxy's is not heard
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
