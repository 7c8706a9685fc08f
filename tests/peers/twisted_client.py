"""Connects by a client description, sends a file, ends that direction, and receives until the server ends the other.

Prints `received` with the number of bytes and their SHA-256, or `error` with the name of the exception.
"""
import hashlib
import sys

from twisted.internet import endpoints, interfaces, protocol, reactor
from twisted.protocols.basic import FileSender
from zope.interface import implementer


@implementer(interfaces.IHalfCloseableProtocol)
class Sender(protocol.Protocol):
    def connectionMade(self):
        self.received = 0
        self.hash = hashlib.sha256()
        sending = FileSender().beginFileTransfer(open(sys.argv[2], "rb"), self.transport)
        sending.addCallback(lambda _: self.transport.loseWriteConnection())

    def dataReceived(self, data):
        self.received += len(data)
        self.hash.update(data)

    def readConnectionLost(self):
        self.transport.loseConnection()

    def writeConnectionLost(self):
        pass

    def connectionLost(self, reason):
        print("received", self.received, self.hash.hexdigest(), flush=True)
        reactor.stop()


def failed(failure):
    print("error", failure.type.__name__, flush=True)
    reactor.stop()


def connect():
    endpoint = endpoints.clientFromString(reactor, sys.argv[1])
    endpoint.connect(protocol.Factory.forProtocol(Sender)).addErrback(failed)


reactor.callWhenRunning(connect)
reactor.run()
