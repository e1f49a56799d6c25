"""Bytes through many tunnels at once, on one thread: what comes back is what went, in order."""

import hashlib
import selectors
import threading
import time

from bench.tunnel import TIMEOUT
from lab.evidence import Unmet
from lab.process import wait_until

# Of bytes. No block is like another, so that none can be lost, doubled or out of its order unnoticed.
BLOCK = 4096

# How much of a tunnel's may be under way.
WINDOW = 16 * BLOCK

# Seconds between two blocks of a tunnel.
PAUSE = 0.05


class Streams:
    """Inside it each tunnel has a block sent every few milliseconds, unless too much of it is still to come back."""

    def __init__(self, tunnels):
        self.streams = [Stream(tunnel.socket, number) for number, tunnel in enumerate(tunnels)]
        self.error = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            with selectors.DefaultSelector() as selector:
                for stream in self.streams:
                    selector.register(stream.socket, selectors.EVENT_READ, stream)
                due = time.monotonic()
                # At the end what has been sent comes back.
                while not self.over.is_set() or any(stream.due for stream in self.streams):
                    for key, _ in selector.select(max(0, due - time.monotonic())):
                        key.data.receive()
                    if time.monotonic() >= due:
                        due = time.monotonic() + PAUSE
                        for stream in self.streams:
                            stream.send(more=not self.over.is_set())
        except Unmet as error:
            self.error = error

    def go_on(self):
        """What each of them sends from now on comes back."""
        sent = [stream.sent for stream in self.streams]
        wait_until(lambda: self.error or all(stream.back > before for stream, before in zip(self.streams, sent)), TIMEOUT,
                   "the bytes that go into each tunnel come back", Unmet)
        if self.error:
            raise self.error

    def total(self):
        return sum(stream.back for stream in self.streams)

    def __enter__(self):
        for stream in self.streams:
            stream.socket.setblocking(False)
        self.thread.start()
        return self

    def __exit__(self, error, *_):
        self.over.set()
        self.thread.join(TIMEOUT)
        for stream in self.streams:
            stream.socket.settimeout(TIMEOUT)
        if error is None:
            if self.error:
                raise self.error
            if self.thread.is_alive():
                late = [str(stream.number) for stream in self.streams if stream.due]
                raise Unmet(f"not all bytes came back through the tunnels {', '.join(late)}")


class Stream:
    """What went into a tunnel, and has to come out of it again."""

    def __init__(self, socket, number):
        self.socket = socket
        self.number = number
        self.blocks = 0
        self.waiting = b""
        # Sent, and not come back yet.
        self.due = bytearray()
        self.sent = 0
        self.back = 0

    def send(self, more):
        """What the tunnel takes of a block; of the next one only if `more` is to be sent."""
        if not self.waiting and more and len(self.due) < WINDOW:
            self.blocks += 1
            self.waiting = hashlib.shake_128(f"{self.number} {self.blocks}".encode()).digest(BLOCK)
        if self.waiting:
            try:
                count = self.socket.send(self.waiting)
            except BlockingIOError:
                return
            except OSError as error:
                raise self.broken(error) from None
            self.sent += count
            self.due += self.waiting[:count]
            self.waiting = self.waiting[count:]

    def receive(self):
        try:
            data = self.socket.recv(1 << 16)
        except OSError as error:
            raise self.broken(error) from None
        if not data:
            raise self.broken("it was closed")
        if data != self.due[:len(data)]:
            raise Unmet(f"tunnel {self.number}: after {self.back} bytes others came back than those that went in")
        del self.due[:len(data)]
        self.back += len(data)

    def broken(self, why):
        return Unmet(f"tunnel {self.number} broke after {self.back} bytes: {why}")
