"""Private keys for pods, and the signed requests that prove who has them: made by the libcrypto that Python's own `ssl` has loaded.

Who calls it: certificates.py, in a thread: an RSA key of 4096 bits takes a second, and ctypes lets the rest of the agent go on meanwhile. A key is in memory only:
no command line and no file of this module ever has it. OpenSSL 1.1.1 and 3 have all that is called here.
"""

from __future__ import annotations

import ctypes
import functools
import re
import ssl
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

_RSA, _EC, _ED25519 = 6, 408, 1087  # EVP_PKEY_RSA, EVP_PKEY_EC, EVP_PKEY_ED25519
KINDS: Dict[str, Tuple[int, List[Tuple[bytes, bytes]], str]] = {
    "RSA3072": (_RSA, [(b"rsa_keygen_bits", b"3072")], "EVP_sha256"),
    "RSA4096": (_RSA, [(b"rsa_keygen_bits", b"4096")], "EVP_sha256"),
    "ECDSAP256": (_EC, [(b"ec_paramgen_curve", b"P-256"), (b"ec_param_enc", b"named_curve")], "EVP_sha256"),
    "ECDSAP384": (_EC, [(b"ec_paramgen_curve", b"P-384"), (b"ec_param_enc", b"named_curve")], "EVP_sha384"),
    "ECDSAP521": (_EC, [(b"ec_paramgen_curve", b"P-521"), (b"ec_param_enc", b"named_curve")], "EVP_sha512"),
    "ED25519": (_ED25519, [], ""),  # it has its own digest
}
"""The key types of a `podCertificate`: what libcrypto calls them, their parameters, and the digest that signs a request."""

_MOST_BYTES = 16 * 1024  # an RSA key of 4096 bits takes 3,300 as PEM
_BIO_CTRL_PENDING = 10


class KeyFailure(Exception):
    """This machine can't make such a key, and why."""


class Made(NamedTuple):
    key: bytes
    """PKCS#8, PEM."""
    request: bytes
    """PKCS#10, DER: an empty subject, the public key, signed with the private one."""


def make(kind: str) -> Made:
    """Make a key, and a request that proves its possession. Blocks for up to some seconds. Raises KeyFailure."""
    if kind not in KINDS:
        raise KeyFailure(f"keys of type {kind} are not supported")
    crypto, (number, parameters, digest) = _crypto(), KINDS[kind]
    key = _generated(crypto, number, parameters)
    try:
        return Made(_pem(crypto, key), _signed(crypto, key, digest))
    finally:
        crypto.EVP_PKEY_free(key)


def _generated(crypto: Any, number: int, parameters: List[Tuple[bytes, bytes]]) -> int:
    context = _there(crypto.EVP_PKEY_CTX_new_id(number, None), "EVP_PKEY_CTX_new_id")
    try:
        _good(crypto.EVP_PKEY_keygen_init(context), "EVP_PKEY_keygen_init")
        for name, value in parameters:
            _good(crypto.EVP_PKEY_CTX_ctrl_str(context, name, value), f"{name.decode()}={value.decode()}")
        key = ctypes.c_void_p()
        _good(crypto.EVP_PKEY_keygen(context, ctypes.byref(key)), "EVP_PKEY_keygen")
        return _there(key.value, "EVP_PKEY_keygen")
    finally:
        crypto.EVP_PKEY_CTX_free(context)


def _pem(crypto: Any, key: int) -> bytes:
    memory = _there(crypto.BIO_new(crypto.BIO_s_mem()), "BIO_new")
    try:
        _good(crypto.PEM_write_bio_PKCS8PrivateKey(memory, key, None, None, 0, None, None), "PEM_write_bio_PKCS8PrivateKey")
        size = crypto.BIO_ctrl(memory, _BIO_CTRL_PENDING, 0, None)
        if not 0 < size <= _MOST_BYTES:
            raise KeyFailure(f"libcrypto wrote a key of {size} bytes")
        buffer = ctypes.create_string_buffer(size)
        read = crypto.BIO_read(memory, buffer, size)
        text = buffer.raw[: max(read, 0)]
        ctypes.memset(buffer, 0, size)
        return text
    finally:
        crypto.BIO_free(memory)


def _signed(crypto: Any, key: int, digest: str) -> bytes:
    request = _there(crypto.X509_REQ_new(), "X509_REQ_new")
    try:
        _good(crypto.X509_REQ_set_version(request, 0), "X509_REQ_set_version")
        _good(crypto.X509_REQ_set_pubkey(request, key), "X509_REQ_set_pubkey")
        _good(crypto.X509_REQ_sign(request, key, getattr(crypto, digest)() if digest else None), "X509_REQ_sign")
        size = crypto.i2d_X509_REQ(request, None)
        if not 0 < size <= _MOST_BYTES:
            raise KeyFailure(f"libcrypto wrote a request of {size} bytes")
        buffer = ctypes.create_string_buffer(size)
        end = ctypes.c_void_p(ctypes.addressof(buffer))  # i2d moves it to behind what it wrote
        crypto.i2d_X509_REQ(request, ctypes.byref(end))
        return buffer.raw
    finally:
        crypto.X509_REQ_free(request)


def _there(pointer: Optional[int], what: str) -> int:
    if not pointer:
        raise KeyFailure(f"libcrypto: {what} failed")
    return pointer


def _good(result: int, what: str) -> None:
    if result <= 0:
        raise KeyFailure(f"libcrypto: {what} failed")


_POINTER, _INT, _LONG, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p
_CALLS: Dict[str, Tuple[Any, List[Any]]] = {  # name -> what it returns, what it takes
    "EVP_PKEY_CTX_new_id": (_POINTER, [_INT, _POINTER]),
    "EVP_PKEY_CTX_free": (None, [_POINTER]),
    "EVP_PKEY_keygen_init": (_INT, [_POINTER]),
    "EVP_PKEY_CTX_ctrl_str": (_INT, [_POINTER, _TEXT, _TEXT]),
    "EVP_PKEY_keygen": (_INT, [_POINTER, _POINTER]),
    "EVP_PKEY_free": (None, [_POINTER]),
    "EVP_sha256": (_POINTER, []),
    "EVP_sha384": (_POINTER, []),
    "EVP_sha512": (_POINTER, []),
    "BIO_s_mem": (_POINTER, []),
    "BIO_new": (_POINTER, [_POINTER]),
    "BIO_free": (_INT, [_POINTER]),
    "BIO_ctrl": (_LONG, [_POINTER, _INT, _LONG, _POINTER]),
    "BIO_read": (_INT, [_POINTER, _POINTER, _INT]),
    "PEM_write_bio_PKCS8PrivateKey": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER, _INT, _POINTER, _POINTER]),
    "X509_REQ_new": (_POINTER, []),
    "X509_REQ_free": (None, [_POINTER]),
    "X509_REQ_set_version": (_INT, [_POINTER, _LONG]),
    "X509_REQ_set_pubkey": (_INT, [_POINTER, _POINTER]),
    "X509_REQ_sign": (_INT, [_POINTER, _POINTER, _POINTER]),
    "i2d_X509_REQ": (_INT, [_POINTER, _POINTER]),
}


@functools.lru_cache(maxsize=1)
def _crypto() -> Any:
    """Return the library that this process has already: another version beside it could not be told apart by its symbols."""
    try:
        crypto = ctypes.CDLL(_path())
        for name, (returns, takes) in _CALLS.items():
            function: Callable[..., Any] = getattr(crypto, name)
            function.restype, function.argtypes = returns, takes  # type: ignore[attr-defined]
        return crypto
    except (OSError, AttributeError) as error:
        raise KeyFailure(f"this machine's Python has no libcrypto that makes keys ({ssl.OPENSSL_VERSION}): {error}") from error


def _path() -> str:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            found = re.search(r"(/\S*/libcrypto[^/\s]*\.so[^/\s]*)( \(deleted\))?$", line.strip())  # an upgrade puts another file there
            if found:
                return found[1]
    raise OSError("Python's ssl module holds it inside itself")
