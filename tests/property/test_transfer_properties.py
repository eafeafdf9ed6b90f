"""What must hold of any transfer over a link that is cut anywhere."""

import asyncio
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurofed import framing, transfer
from neurofed.framing import chunk_at
from neurofed.rope import Checksum
from neurofed.transfer import BlobReceiver, Outbox, Sending
from neurofed.v1.fleet_pb2 import Received
from neurofed.v1.records_pb2 import Blob

CHUNK, WINDOW = 16, 64

untimed = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


class Link:
    """A stream between an outbox and a receiver: what is written waits on it, in order, until it is read or cut."""

    def __init__(self, blob, receiver, order):
        self.outbox, self.receiver, self.order = Outbox(), receiver, order
        self.under_way, self.acknowledgements, self.sent = [], [], 0
        self.outbox.announce("announced", Sending("t", len(blob)), lambda offset: chunk_at(blob, offset))

    def write(self):
        """Take one frame from the sender, if it has any."""
        getting = self.outbox.get()
        try:
            getting.send(None)
        except StopIteration as got:
            self.under_way.append(got.value)
            return True
        getting.close()
        return False

    def read(self):
        """Give the receiver what arrives next."""
        frame = self.under_way.pop(0)
        if frame == "announced":
            self.acknowledgements.append(self.receiver.received_bytes)
            return
        self.sent += len(frame.data)
        self.receiver.add(frame)
        self.acknowledgements.append(self.receiver.received_bytes)

    def acknowledge(self):
        """Give the sender the next acknowledgement, which asks for more or less."""
        offset = self.acknowledgements.pop(0)
        limit = offset + self.order.randint(CHUNK, 2 * WINDOW)
        self.outbox.acknowledge(Received(task_id="t", offset=offset, limit=limit))


async def _transfer(blob, cuts, order):
    receiver = BlobReceiver(Blob(xxh3_128=Checksum(blob).digest(), size_bytes=len(blob)), len(blob))
    arrived = 0
    for cut in (*cuts, None):
        link, steps, before = Link(blob, receiver, order), 0, receiver.received_bytes
        while not (receiver.complete and not link.acknowledgements) and steps != cut:
            steps += 1
            choice = order.choice("wra")
            if choice == "r" and link.under_way:
                link.read()
            elif choice == "a" and link.acknowledgements:
                link.acknowledge()
            elif not link.write():
                if link.acknowledgements:
                    link.acknowledge()
                elif link.under_way:
                    link.read()
            waiting = sum(len(frame.data) for frame in link.under_way if frame != "announced")
            assert waiting <= WINDOW
        assert receiver.received_bytes - before == link.sent, "a byte that had arrived was sent again"
        arrived += link.sent
    assert arrived == len(blob)
    return receiver.finish()


@untimed
@given(st.binary(max_size=600), st.lists(st.integers(0, 40), max_size=6), st.integers(0, 2**32))
def test_over_any_cuts_every_byte_arrives_once_and_the_window_holds(blob, cuts, seed):
    before = framing.CHUNK_BYTES, transfer.WINDOW_BYTES
    framing.CHUNK_BYTES = transfer.CHUNK_BYTES = CHUNK
    transfer.WINDOW_BYTES = WINDOW
    try:
        assert asyncio.run(_transfer(blob, cuts, random.Random(seed))) == blob
    finally:
        framing.CHUNK_BYTES, transfer.WINDOW_BYTES = before
        transfer.CHUNK_BYTES = framing.CHUNK_BYTES
