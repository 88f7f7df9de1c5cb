"""Pictures from web addresses that strangers give: public addresses only, whatever names and redirects say.

A name is looked up once, every address it has must be public, and the connection goes to an address that was
looked at: a name that points elsewhere a moment later (DNS rebinding) changes nothing. Redirects are followed by
hand, each under the same rules. No proxy, no user and password, no port but the scheme's own.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from faceproof.errors import TooLargeError, UnreadableError, UsageError

__all__ = ["Fetched", "address_is_public", "fetch_public"]

MOST_REDIRECTS = 4
PORTS = {"http": 80, "https": 443}
NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
Lookup = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Fetched:
    """What lay at an address: its bytes, and the URL after all redirects."""

    url: str
    data: bytes


def address_is_public(text: str) -> bool:
    """Return whether an IP address belongs to the public internet, also inside IPv6 forms of IPv4 addresses."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and any(address in network for network in NAT64):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return address_is_public(str(inner))
        if int(address) >> 32 == 0:  # IPv4-compatible, ::1, ::
            return False
    site = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not (address.is_multicast or address.is_reserved or site)


def look_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def fetch_public(
    url: str, *, most: int, seconds: float, lookup: Lookup = look_up, public: Callable[[str], bool] = address_is_public
) -> Fetched:
    """Fetch a file from the public web.

    Args:
        url: http or https.
        most: bytes it may have.
        seconds: in all, redirects included.
        lookup: gives the addresses of a host.
        public: says whether an address may be asked.

    Raises:
        UsageError: the URL is none, or leads to what is not public.
        TooLargeError: it has more bytes.
        UnreadableError: it does not come.
    """
    end = time.monotonic() + seconds
    for _ in range(MOST_REDIRECTS + 1):
        parts = _split(url)
        try:
            with contextlib.closing(_connect(parts, lookup, public, end)) as connection, _cut_at(connection, end):
                host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", path, headers={"Host": host, "User-Agent": "faceproof", "Accept": "image/*"})
                answer = connection.getresponse()
                place = answer.getheader("Location")
                if answer.status in (301, 302, 303, 307, 308) and place:
                    url = urljoin(url, place)
                    continue
                if answer.status != 200:
                    raise UnreadableError(f"the server answered {answer.status}; check the URL")
                return Fetched(url, _drain(answer, most, end))
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as err:
            # The message may tell about the inside of a network: only its kind is passed on.
            raise UnreadableError(f"cannot be fetched ({type(err).__name__}); check the URL") from err
    raise UnreadableError(f"more than {MOST_REDIRECTS} redirects; give the last address")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("not a URL; give one that begins with http:// or https://") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise UsageError("a URL begins with http:// or https:// and names a server")
    if parts.username is not None or parts.password is not None:
        raise UsageError("a URL with a user or password is not fetched; give one without")
    if port not in (None, PORTS[parts.scheme]):
        raise UsageError("only the usual ports are asked: 80 for http, 443 for https")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError("a URL has printable ASCII letters only; encode the others with %")
    return parts


def _connect(
    parts: SplitResult, lookup: Lookup, public: Callable[[str], bool], end: float
) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", PORTS[parts.scheme]
    addresses = list(lookup(host, port))
    if not addresses or not all(public(address) for address in addresses):
        raise UsageError("this address is not on the public internet, and is not asked")
    wait = max(0.1, min(10.0, end - time.monotonic()))
    connection = http.client.HTTPConnection(host, port, timeout=wait)
    plain = socket.create_connection((addresses[0], port), timeout=wait)
    try:
        if parts.scheme == "https":
            plain = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    connection.sock = plain  # connected already: http.client looks nothing up
    return connection


@contextlib.contextmanager
def _cut_at(connection: http.client.HTTPConnection, end: float) -> Iterator[None]:
    """Cut the connection at a time: a server that sends a byte now and then never meets a timeout of its own."""
    own = connection.sock

    def cut() -> None:
        with contextlib.suppress(OSError):
            own.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.1, end - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _drain(answer: http.client.HTTPResponse, most: int, end: float) -> bytes:
    blocks, size = [], 0
    while block := answer.read1(1 << 16):
        size += len(block)
        if size > most:
            raise TooLargeError(f"more than {most / 2**20:.0f} MiB; give a smaller picture")
        blocks.append(block)
    # Of a body with a Content-Length, what did not come; without one, the cut looks like an end.
    if answer.length or time.monotonic() >= end:
        raise UnreadableError("the answer breaks off or takes too long; download it and give the file")
    return b"".join(blocks)
