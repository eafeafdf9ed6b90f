"""Key pairs of one round, what two workers have in common, and letters that only the other can read."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from neurofed.errors import UpdateError
from neurofed.secagg.keystream import KEY_BYTES

PUBLIC_BYTES = 32
TAG_BYTES = 16
_NONCE = bytes(12)
"""A key seals one letter only."""


def public_of(private: bytes) -> bytes:
    """The public key of an X25519 private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def require_public(public: bytes) -> None:
    """Check that a public key leads to secrets, unlike the few that lead everybody to the same (RFC 7748, section 6.1).

    Raises:
        UpdateError: if it does not.
    """
    _derived(bytes(PUBLIC_BYTES), public, b"check", b"", 0, 0)


def mask_key(private: bytes, public: bytes, session: bytes, one: int, other: int) -> bytes:
    """The key of the mask that two workers have in common; both get the same.

    Raises:
        UpdateError: if the public key is none.
    """
    return _derived(private, public, b"mask", session, min(one, other), max(one, other))


def seal(private: bytes, public: bytes, session: bytes, sender: int, recipient: int, letter: bytes) -> bytes:
    """Encrypt a letter.

    Raises:
        UpdateError: if the public key is none.
    """
    key = _derived(private, public, b"letter", session, sender, recipient)
    return ChaCha20Poly1305(key).encrypt(_NONCE, letter, session)


def unseal(private: bytes, public: bytes, session: bytes, sender: int, recipient: int, sealed: bytes) -> bytes:
    """Decrypt a letter.

    Raises:
        UpdateError: if it is not what the sender sealed for this recipient in this session.
    """
    key = _derived(private, public, b"letter", session, sender, recipient)
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, session)
    except InvalidTag:
        raise UpdateError(
            f"secure aggregation: worker {recipient} cannot open the letter of worker {sender}: "
            "it was changed, or belongs to another round"
        ) from None


def _derived(private: bytes, public: bytes, purpose: bytes, session: bytes, one: int, other: int) -> bytes:
    """32 bytes that only the holders of the two private keys can compute (RFC 7748, RFC 5869)."""
    try:
        common = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise UpdateError("secure aggregation: expected public keys, got bytes that are none") from None
    info = b"|".join([b"neurofed secagg 1", purpose, one.to_bytes(8), other.to_bytes(8), session])
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(common)
