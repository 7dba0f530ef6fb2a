"""Trust anchors for a pod (KEP-3257): the source `clusterTrustBundle` of a projected volume. One bundle by its name, or all of a signer that a selector matches.

Who calls it: `volumes.py`, through the Tools.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from .client import Api, Refused
from .environment import ConfigError

Object = Dict[str, Any]
PATH = "/apis/certificates.k8s.io/v1/clustertrustbundles"
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)


async def anchors(api: Api, asked: Object) -> bytes:
    """Return the certificates as PEM blocks, each once, in an order that does not depend on where they come from. Raises ConfigError if there are none."""
    if asked.get("name"):
        bundles, what = await _named(api, asked["name"]), f'"{asked["name"]}"'
    elif asked.get("signerName"):
        bundles, what = await _signers(api, asked), f'of signer "{asked["signerName"]}"'
    else:
        raise ConfigError("clusterTrustBundle names neither a bundle nor a signer")
    if not bundles and not asked.get("optional"):
        raise ConfigError(f"clustertrustbundle {what} not found")
    blocks = {block for each in bundles for block in _BLOCK.findall(each["spec"].get("trustBundle") or "")}
    return "".join(block + "\n" for block in sorted(blocks)).encode()


async def _named(api: Api, name: str) -> List[Object]:
    try:
        return [await api.get(f"{PATH}/{name}")]
    except Refused as error:
        if error.code == 404:
            return []
        raise


async def _signers(api: Api, asked: Object) -> List[Object]:
    selector = selector_text(asked.get("labelSelector"))
    if selector is None:
        return []
    signer = f"spec.signerName={asked['signerName']}"
    answer = await api.get(PATH, fieldSelector=signer, labelSelector=selector)
    found: List[Object] = answer.get("items") or []
    return found


def selector_text(selector: Optional[Object]) -> Optional[str]:
    """Return a LabelSelector as a query has it. "" selects everything; None, for a selector that is not there, nothing."""
    if selector is None:
        return None
    words = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for each in selector.get("matchExpressions") or ():
        key, operator, values = each["key"], each["operator"], ",".join(each.get("values") or ())
        listed = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}
        words.append(listed[operator])
    return ",".join(words)
