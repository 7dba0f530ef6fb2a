"""The webhooks: prices are converted between cents and an amount, and one of nothing is refused."""

import http.server
import json
import ssl


def converted(price: dict, wanted: str) -> dict:
    spec = dict(price["spec"])
    if wanted.endswith("/v1") and "cents" in spec:
        spec = {"amount": f"{spec['cents'] / 100:.2f}"}
    elif not wanted.endswith("/v1") and "amount" in spec:
        spec = {"cents": round(float(spec["amount"]) * 100)}
    return {**price, "apiVersion": wanted, "spec": spec}


def answer(path: str, asked: dict) -> dict:
    if path == "/convert":
        objects = [converted(price, asked["desiredAPIVersion"]) for price in asked["objects"]]
        return {"result": {"status": "Success"}, "convertedObjects": objects}
    free = asked["object"]["spec"].get("cents") == 0
    return {"allowed": not free, "status": {"message": "nothing is free", "reason": "Forbidden", "code": 403}}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"uid": review["request"]["uid"], **answer(self.path.partition("?")[0], review["request"])}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": said}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
