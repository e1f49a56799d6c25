"""A connection through the shim, as an agent makes one, and streams of bytes that have to come back as they went."""

import random
import socket
import threading

from bench.server import ANSWER, HELLO, exactly
from lab.evidence import Unmet

SHIM = ("127.0.0.1", 8139)

# Seconds. Nothing here waits for long, unless something is wrong.
TIMEOUT = 20


class Tunnel:
    """Open once it is made: the shim said 200, and the server has answered the ClientHello."""

    def __init__(self, namespace, address=SHIM, name="puppet.example.test"):
        with namespace.entered():
            self.socket = socket.create_connection(address, TIMEOUT)
        self.random = random.Random(8140)
        try:
            self.socket.sendall(f"CONNECT {name}:8140 HTTP/1.1\r\nHost: {name}:8140\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += exactly(self.socket, 1)
            if not head.startswith(b"HTTP/1.1 200"):
                raise Unmet(f"the shim answered {head.splitlines()[0].decode()}")
            self.socket.sendall(HELLO)
            if (answer := exactly(self.socket, len(ANSWER))) != ANSWER:
                raise Unmet(f"the server's answer came as {answer!r}")
        except OSError as error:
            self.socket.close()
            raise Unmet(f"no tunnel: {error}") from None

    def exchange(self, length=100_000):
        """Bytes go to the server and back, and are the same."""
        data = self.random.randbytes(length)
        sender = threading.Thread(target=self.socket.sendall, args=[data], daemon=True)
        sender.start()
        self.returns(data)
        sender.join()

    def ask(self, length):
        """So many bytes go to the server, fewer than wait in a socket; returns them."""
        data = self.random.randbytes(length)
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Unmet(f"the tunnel broke: {error}") from None
        return data

    def returns(self, data):
        """These bytes come back, and are the same."""
        length = len(data)
        try:
            echo = exactly(self.socket, length)
        except OSError as error:
            raise Unmet(f"the tunnel broke: {error}") from None
        if echo != data:
            at = next(at for at, (ours, theirs) in enumerate(zip(data, echo)) if ours != theirs)
            raise Unmet(f"of {length} bytes that went through the tunnel, number {at} came back as another")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Traffic:
    """Inside it, bytes go through a tunnel without a pause, on a thread of their own."""

    def __init__(self, tunnel):
        self.tunnel = tunnel
        self.rounds = 0
        self.error = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.over.is_set():
                self.tunnel.exchange()
                self.rounds += 1
        except Unmet as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, error, *_):
        self.over.set()
        self.thread.join(TIMEOUT)
        if self.error and error is None:
            raise self.error


class Knocking:
    """Inside it, the port is connected to a hundred times a second, and must never refuse."""

    def __init__(self, namespace, address=SHIM):
        self.namespace = namespace
        self.address = address
        self.count = 0
        self.error = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        with self.namespace.entered():
            while not self.over.wait(0.01):
                try:
                    socket.create_connection(self.address, TIMEOUT).close()
                except OSError as error:
                    self.error = error
                    return
                self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, error, *_):
        self.over.set()
        self.thread.join(TIMEOUT)
        if self.error and error is None:
            raise Unmet(f"after {self.count} connections the port did not take one: {self.error}")


class Crowd:
    """Inside it, so many clients connect, have bytes go to the server and back, and close, over and over."""

    def __init__(self, namespace, clients):
        self.namespace = namespace
        self.count = 0
        self.failures = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]

    def run(self):
        while not self.over.is_set():
            try:
                with Tunnel(self.namespace) as tunnel:
                    tunnel.returns(tunnel.ask(1000))
            except Unmet as error:
                with self.lock:
                    self.failures.append(error)
            with self.lock:
                self.count += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, error, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(TIMEOUT)
        if self.failures and error is None:
            raise Unmet(f"{len(self.failures)} of {self.count} connections failed, the first: {self.failures[0]}")
