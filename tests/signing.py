"""Content credentials for tests: a certificate chain made here, and files signed with it by c2pa-python."""

from __future__ import annotations

import datetime
import functools
import io
from typing import Any

import numpy as np
from PIL import Image

from faceproof.images import RGB

MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff", "AVIF": "image/avif"}
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def encoded(pixels: RGB, kind: str, **options: Any) -> bytes:
    """A 128 x 96 picture in a format, with Pillow's options (exif, xmp, pnginfo, comment)."""
    stream = io.BytesIO()
    if kind == "AVIF":
        options = {"speed": 10, **options}
    Image.fromarray(np.ascontiguousarray(pixels[:384])).resize((128, 96)).save(stream, kind, **options)
    return stream.getvalue()


@functools.cache
def chain(ocsp: str | None = None) -> tuple[bytes, bytes]:
    """PEM of an ES256 leaf with its root, and of its key: what C2PA 2.2, section 14.5 asks of a signer."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

    def name(common: str, organisation: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, common),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            ]
        )

    def usage(*, authority: bool) -> x509.KeyUsage:
        return x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=30)
    root_name = name("Test Root", "Test Authority")
    certificates = []
    for subject, public, authority in ((root_name, root_key, True), (name("Signer", "Test Works"), key, False)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(public.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=400))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(usage(authority=authority), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)
        )
        if not authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
            if ocsp:
                access = x509.AccessDescription(
                    AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp)
                )
                builder = builder.add_extension(x509.AuthorityInformationAccess([access]), False)
        certificates.append(builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificates[1] + certificates[0], secret


def sign(
    data: bytes,
    kind: str,
    *actions: dict[str, Any],
    parent: bytes | None = None,
    remote: str | None = None,
    ocsp: str | None = None,
) -> tuple[bytes, bytes]:
    """Sign a file whose manifest holds these actions; returns it and the manifest.

    Args:
        parent: a file this one was made from: becomes an ingredient.
        remote: leave the manifest out of the file, and name this address in it.
        ocsp: address of the certificate's OCSP responder.
    """
    import c2pa

    certificates, key = chain(ocsp)
    manifest = {
        "claim_generator_info": [{"name": "faceproof test", "version": "1"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}],
    }
    settings = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"verify_after_sign": False}}
    info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=certificates, private_key=key, ta_url=None)
    out = io.BytesIO()
    with c2pa.Builder(manifest, context=c2pa.Context.from_dict(settings)) as builder:
        if parent is not None:
            ingredient = {"title": "parent", "relationship": "parentOf", "label": "parent"}
            builder.add_ingredient(ingredient, MIME[kind], io.BytesIO(parent))
        if remote is not None:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        stored = builder.sign(c2pa.Signer.from_info(info), MIME[kind], io.BytesIO(data), out)
    return out.getvalue(), stored


def created(name: str) -> dict[str, str]:
    """The action of making a picture, with an IPTC source type."""
    return {"action": "c2pa.created", "digitalSourceType": IPTC + name}
