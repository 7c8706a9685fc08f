"""gRPC for the tests: `echo_in_python.py serve ADDRESS`, `echo_in_python.py call ADDRESS TEXT [ROOTS]`. Messages are bare bytes."""

import sys
from concurrent import futures

import grpc

METHOD = "/example.Echo/Say"


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request + b", by Python")


def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port(address)
    server.start()
    print(f"listening on {port}", flush=True)
    server.wait_for_termination()


def call(address, text, roots=None):
    # The environment may name a proxy.
    options = [("grpc.enable_http_proxy", 0)]
    # What it makes of a path is no authority by RFC 3986, and h2 refuses it.
    if address.startswith("unix:"):
        options.append(("grpc.default_authority", "localhost"))
    if roots:
        with open(roots, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address, options)
    with channel:
        answer = channel.unary_unary(METHOD)(text.encode(), timeout=30, wait_for_ready=True)
    print(answer.decode())


{"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
