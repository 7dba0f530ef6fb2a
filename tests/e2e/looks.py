"""What a lab's API holds, read without starting a kubectl: a scenario that waits looks many times a second, and each kubectl takes 0.1 s of a processor.

It takes the words of `kubectl get` (kinds, names, -n, -A, -l, --field-selector) and answers the same objects. What it doesn't know, kubectl is asked.
"""

import base64
import http.client
import json
import ssl
import tempfile
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import yaml

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
OPTIONS = {"-n": "namespace", "--namespace": "namespace", "-l": "labelSelector", "--field-selector": "fieldSelector"}


class Unknown(Exception):
    """These words are for kubectl itself."""


class Looks:
    """Reads as the user of `kubeconfig`, over one connection that is made anew when it broke, or when the lab has another address."""

    def __init__(self, kubeconfig: Path, timeout_s: float) -> None:
        self._kubeconfig = kubeconfig
        self._timeout_s = timeout_s
        self._text = ""
        self._connection: http.client.HTTPSConnection | None = None
        self._kinds: dict[str, tuple[str, str, bool]] = {}

    def get(self, *words: str) -> dict:
        """One object, or a list. Raises AssertionError where kubectl fails, Unknown for words it doesn't know."""
        kinds, names, query = _read(words)
        namespace = query.pop("namespace", "default")
        paths = [self._path(kind, namespace) for kind in kinds]
        if names:
            if len(paths) != 1:
                raise Unknown(words)
            found = [_shown(self._ask(f"{paths[0]}/{quote(name)}", query)) for name in names]
            return found[0] if len(found) == 1 else _list(found)
        return _list([item for path in paths for item in _items(self._ask(path, query))])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _path(self, word: str, namespace: str) -> str:
        if word not in self._kinds:
            self._kinds = self._discovered()  # also kinds that came since
        if word not in self._kinds:
            raise Unknown(word)
        root, plural, namespaced = self._kinds[word]
        return f"{root}/namespaces/{quote(namespace)}/{plural}" if namespaced and namespace else f"{root}/{plural}"

    def _discovered(self) -> dict[str, tuple[str, str, bool]]:
        """Each word that names a kind -> (path of its version, plural, is it in namespaces?); of two kinds with one word the first counts."""
        found: dict[str, tuple[str, str, bool]] = {}
        for root in ("/api", "/apis"):
            for group in self._ask(root, {}, DISCOVERY)["items"]:
                name, version = group["metadata"].get("name", ""), group["versions"][0]
                for kind in version["resources"]:
                    plural = kind["resource"]
                    there = (f"{root}/{name}/{version['version']}".replace("//", "/"), plural, kind["scope"] == "Namespaced")
                    for word in (f"{plural}.{name}", plural, kind.get("singularResource", ""), *kind.get("shortNames", ())):
                        found.setdefault(word, there)
        return found

    def _ask(self, path: str, query: dict[str, str], accept: str = "application/json") -> dict:
        for attempt in (1, 2):
            fresh = self._connect()
            try:
                self._connection.request("GET", f"{path}?{urlencode(query)}" if query else path, headers={"Accept": accept})
                answer = self._connection.getresponse()
                body = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or attempt == 2 or isinstance(error, TimeoutError):  # only a connection that was kept may have ended since
                    raise AssertionError(f"GET {path}: {error!r}") from error
        assert answer.status == 200, f"GET {path}: {answer.status} {body[:500]!r}"
        return json.loads(body)

    def _connect(self) -> bool:
        """Is there a new connection?"""
        try:
            text = self._kubeconfig.read_text()
        except OSError as error:
            raise AssertionError(f"there is no lab: {error}") from error
        if text != self._text:
            self.close()
            self._text, self._kinds = text, {}
        if self._connection is not None:
            return False
        config = yaml.safe_load(text)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            file.flush()
            tls.load_cert_chain(file.name)
        address = urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=self._timeout_s, context=tls)
        return True


def _read(words: tuple[str, ...]) -> tuple[list[str], list[str], dict[str, str]]:
    """Kinds, names, and the query with the namespace in it."""
    plain, query, rest = [], {}, list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-A", "--all-namespaces"):
            query["namespace"] = ""
        elif word in OPTIONS and rest:
            query[OPTIONS[word]] = rest.pop(0)
        elif word.startswith("-") or "/" in word:
            raise Unknown(words)
        else:
            plain.append(word)
    if not plain:
        raise Unknown(words)
    return plain[0].split(","), plain[1:], query


def _list(items: list[dict]) -> dict:
    return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}


def _items(answer: dict) -> list[dict]:
    """Items of a list say no kind themselves; kubectl adds it."""
    kind = {"apiVersion": answer["apiVersion"], "kind": answer["kind"].removesuffix("List")}
    return [_shown({**kind, **item}) for item in answer["items"]]


def _shown(item: dict) -> dict:
    """Without what kubectl leaves out."""
    item["metadata"].pop("managedFields", None)
    return item
