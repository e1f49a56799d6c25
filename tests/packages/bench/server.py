"""What is behind the shim: it takes a ClientHello, answers as a server's handshake begins, and echoes from then on.

The shim goes by that beginning, and carries the rest unread. Only its own look at the certificate wants a real handshake.
"""

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path

from lab.process import run

PORT = 8140

# A record of type handshake, with what may as well be a ServerHello in it.
ANSWER = bytes([22, 3, 3, 0, 4, 2, 0, 0, 0])

# The bench's own, from which it is known.
HELLO = (Path(__file__).parents[2] / "hello" / "openssl.bin").read_bytes()


class Server:
    def __init__(self, namespace, address):
        # The monotonic clock at the first byte of the last hello that was the bench's.
        self.reached = None
        # With a certificate, it is shown to who says hello in another way.
        self.tls = None
        # An event before which a connection that is made now has no answer to what it asks.
        self.compiled = None
        with namespace.entered():
            self.socket = socket.create_server((address, PORT), backlog=256)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def show(self, certificate, key):
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)

    @contextlib.contextmanager
    def compiling(self):
        """Who connects inside it waits for an answer, as for a catalog, until the event that this gives is set."""
        self.compiled = threading.Event()
        try:
            yield self.compiled
        finally:
            self.compiled = None

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            # Two hellos differ soon.
            began = connection.recv(1, socket.MSG_PEEK) and time.monotonic()
            if self.tls and connection.recv(16, socket.MSG_PEEK | socket.MSG_WAITALL) != HELLO[:16]:
                with self.tls.wrap_socket(connection, server_side=True) as shown:
                    shown.recv(1)
            else:
                self.reached = began
                echo(connection, self.compiled)

    def close(self):
        # Wakes `accept`, which closing alone does not.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def certified(directory, name):
    """A certificate for this name that nobody else vouches for, and its key."""
    certificate, key = (directory / f"{name}.{kind}" for kind in ("pem", "key"))
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name.replace(' ', '-')}", "-keyout", str(key), "-out", str(certificate)])
    return certificate, key


def echo(connection, compiled):
    exactly(connection, len(HELLO))
    connection.sendall(ANSWER)
    while data := connection.recv(1 << 16):
        if compiled:
            compiled.wait()
        connection.sendall(data)


def exactly(connection, length):
    data = bytearray()
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionError("the connection ended early")
        data += more
    return bytes(data)
