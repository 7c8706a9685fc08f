"""Listens on a server description and sends everything back; after the client's half-close, it says goodbye.

Prints `listening`, or `error` with the name of the exception.
"""
import sys

from twisted.internet import endpoints, interfaces, protocol, reactor
from zope.interface import implementer


@implementer(interfaces.IHalfCloseableProtocol)
class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

    def readConnectionLost(self):
        self.transport.write(b"goodbye")
        self.transport.loseConnection()

    def writeConnectionLost(self):
        pass


def say(*words):
    print(*words, flush=True)


def failed(failure):
    say("error", failure.type.__name__)
    reactor.stop()


def listen():
    endpoint = endpoints.serverFromString(reactor, sys.argv[1])
    listening = endpoint.listen(protocol.Factory.forProtocol(Echo))
    listening.addCallbacks(lambda port: say("listening"), failed)


reactor.callWhenRunning(listen)
reactor.run()
