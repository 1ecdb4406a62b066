"""Signatures of manifests: Ed25519 (RFC 8032), so that ``openssl`` can check them, too.

A private key is a secret, named by reference (`secrets`): one line of base64 of the key's PKCS #8 form in DER, as
``openssl genpkey -algorithm ed25519 -outform DER | base64 -w0`` writes it, or the PEM text.
"""

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .errors import UsageError
from .partition import digest_bytes
from .secrets import reveal


class Signer:
    """Signs with the private key behind a reference. Raises ``UsageError``, ``AccessError``."""

    def __init__(self, reference: str) -> None:
        text = reveal(reference).get_secret_value().strip()
        try:
            if text.startswith("-----BEGIN"):
                key = serialization.load_pem_private_key(text.encode(), None)
            else:
                key = serialization.load_der_private_key(base64.b64decode(text, validate=True), None)
        except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            # What it is instead is not said: it may be another secret.
            raise UsageError(
                f"the secret {reference} is no key to sign with",
                expected="an Ed25519 private key without a password, in PEM or base64 of DER", found="something else",
            )  # fmt: skip
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(data)

    @property
    def public_pem(self) -> bytes:
        """The public key in PEM."""
        return _pem(self._key.public_key())


def public_key(pem: bytes, where: str) -> Ed25519PublicKey:
    """A public key from PEM. Raises ``UsageError`` for what is none."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{where} is no public key", expected="an Ed25519 public key in PEM", found="something else")
    return key


def public_key_file(path: str) -> Ed25519PublicKey:
    """A public key from a file. Raises ``UsageError``."""
    try:
        return public_key(Path(path).expanduser().read_bytes(), path)
    except OSError as error:
        raise UsageError(f"the public key {path} cannot be read ({error.strerror})") from None


def holds(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether a signature is that of the key's owner under the data."""
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def fingerprint_of(key: Ed25519PublicKey) -> str:
    """A short name of a public key, to be compared by eye or over the telephone: 16 digits of its SHA-256."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return digest_bytes(raw).removeprefix("sha256:")[:16]


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
