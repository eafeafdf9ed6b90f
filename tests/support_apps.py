"""Flower ClientApps in this process, as a grid sees them."""

from flwr.app import Context, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from neurofed import flower
from neurofed.errors import NeuroFedError


class AppGrid(Grid):
    """Workers as apps by number. Messages go through their form as bytes.

    `fails` names (kind, number) that fail; `changes` has functions that change a reply before it arrives.
    """

    def __init__(self, apps, fails=(), changes=None):
        self.apps = dict(apps)
        self.fails, self.changes, self.seen = set(fails), changes or {}, []
        flower.set_identity(1, flower.SERVER_NODE_ID)

    def get_nodes(self):
        return [NodeInfo(node_id=number, name=f"board-{number}") for number in self.apps]

    def set_run(self, run):
        raise NotImplementedError

    run = create_message = get_node_ids = push_messages = pull_messages = None

    def send_and_receive(self, asked, *, timeout=None):
        for message in list(asked):
            number, kind = message.metadata.dst_node_id, message.metadata.message_type
            flower.set_identity(1, number)
            try:
                request = flower.task_message(
                    _over_the_wire(message.content), task_id=kind, run_number=1, node_id=number, kind=kind, group="1"
                )
                records = self.apps[number](request, Context(1, number, {}, RecordDict(), {})).content
                records = self.changes.get((kind, number), lambda r: r)(_over_the_wire(records))
                self.seen.append((kind, number, records))
                failed = (kind, number) in self.fails
            except NeuroFedError:
                failed = True
            reply = Message(Error(2, "gone"), reply_to=request) if failed else Message(records, reply_to=request)
            flower.set_identity(1, flower.SERVER_NODE_ID)
            yield reply


def _over_the_wire(records):
    content, rope = flower.content_of(records)
    return flower.records_of(content, bytes(rope))
