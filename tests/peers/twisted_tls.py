"""An echo over TLS: `server DESCRIPTION` sends everything back; `client DESCRIPTION FILE` sends a file, and receives as
much.

Prints `listening`, `received` with the number of bytes and their SHA-256, or `error` with the name of the exception.
"""
import hashlib
import sys

from twisted.internet import endpoints, protocol, reactor


class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class Sender(protocol.Protocol):
    def connectionMade(self):
        self.bytes = open(sys.argv[3], "rb").read()
        self.received = 0
        self.hash = hashlib.sha256()
        self.transport.write(self.bytes)

    def dataReceived(self, data):
        self.received += len(data)
        self.hash.update(data)
        if self.received == len(self.bytes):
            self.transport.loseConnection()

    def connectionLost(self, reason):
        if self.received == len(self.bytes):
            print("received", self.received, self.hash.hexdigest(), flush=True)
        else:
            print("error", reason.type.__name__, flush=True)
        reactor.stop()


def failed(failure):
    print("error", failure.type.__name__, flush=True)
    reactor.stop()


def begin():
    role, description = sys.argv[1:3]
    if role == "server":
        endpoint = endpoints.serverFromString(reactor, description)
        listening = endpoint.listen(protocol.Factory.forProtocol(Echo))
        listening.addCallbacks(lambda port: print("listening", flush=True), failed)
    else:
        endpoint = endpoints.clientFromString(reactor, description)
        endpoint.connect(protocol.Factory.forProtocol(Sender)).addErrback(failed)


reactor.callWhenRunning(begin)
reactor.run()
