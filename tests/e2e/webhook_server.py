"""An admission webhook in a pod, with nothing but the standard library. The path says what it does: mutate, count, refuse, or answer late."""

import base64
import http.server
import json
import ssl
import time


def changed(data: dict, key: str, value: str) -> dict:
    patch = [{"op": "add", "path": "/data", "value": {**data, key: value}}]
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}


def judged(path: str, data: dict) -> dict:
    if path == "/mutate":
        return changed(data, "mutated", "yes") if "mutated" not in data else {"allowed": True}
    if path == "/count":
        return changed(data, "asked", str(int(data.get("asked", "0")) + 1))
    if path == "/refuse" and "bad" in data:
        return {"allowed": False, "status": {"message": "the data has something bad"}}
    if path == "/late":
        time.sleep(5)
    return {"allowed": True}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        said = {"uid": asked["uid"], **judged(self.path.partition("?")[0], (asked["object"] or {}).get("data") or {})}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
