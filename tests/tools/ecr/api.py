"""Amazon's API for passwords of ECR: moto, behind a check of the signature.

moto takes any signature, or none. Here botocore computes it a second time, from what came. A
password of Amazon's is good in one region; moto gives `123456789012-auth-token` in each, so the
region is added to it. It says that it ended in 2015.

    api.py PORT KEY_ID SECRET [CERTIFICATE KEY]

With a certificate, over TLS.
"""

import base64
import datetime
import http.server
import json
import re
import ssl
import sys
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

PORT, KEY_ID, SECRET = int(sys.argv[1]), sys.argv[2], sys.argv[3]

MOTO = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
MOTO.start()


def region_of(head):
    """The region that a request is signed for."""
    return head["authorization"].split("/")[2]


def in_region(body, region):
    """The answer of moto, with passwords of this region."""
    answer = json.loads(body)
    for issued in answer["authorizationData"]:
        token = base64.b64decode(issued["authorizationToken"]) + f"-{region}".encode()
        issued["authorizationToken"] = base64.b64encode(token).decode()
    return json.dumps(answer).encode()


def fault(head, body):
    """What is wrong with the signature of a request, or None."""
    form = r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/ecr/aws4_request, " \
        r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
    found = re.fullmatch(form, head.get("authorization", ""))
    if not found:
        return "IncompleteSignatureException"
    key_id, _, region, names, signature = found.groups()
    host = re.fullmatch(r"api\.ecr\.([^.]+)\.amazonaws\.com", head["host"])
    if key_id != KEY_ID or (host and host[1] != region):
        return "UnrecognizedClientException"
    date = head.get("x-amz-date", "")
    now = datetime.datetime.now(datetime.timezone.utc)
    at = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    if abs((now - at).total_seconds()) > 300:
        return "RequestExpired"
    signed = {name: head[name] for name in names.split(";")}
    if not {"host", "x-amz-date", "x-amz-target"} <= set(signed):
        return "IncompleteSignatureException"
    request = AWSRequest("POST", f"http://{head['host']}/", data=body, headers=signed)
    request.context["timestamp"] = date
    signer = SigV4Auth(Credentials(KEY_ID, SECRET), "ecr", region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return None if signer.signature(text, request) == signature else "InvalidSignatureException"


class Api(http.server.BaseHTTPRequestHandler):
    """Passes on to moto what is signed right."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        head = {name.lower(): value for name, value in self.headers.items()}
        wrong = fault(head, body)
        if wrong:
            self.answer(400, b'{"__type":"%s"}' % wrong.encode())
            return
        host, port = MOTO.get_host_and_port()
        passed = urllib.request.Request(f"http://{host}:{port}/", data=body, headers=head)
        with urllib.request.urlopen(passed) as answered:
            self.answer(answered.status, in_region(answered.read(), region_of(head)))

    def answer(self, status, body):
        """Sends an answer, and says in the log what it is."""
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


SERVER = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Api)
if len(sys.argv) > 4:
    CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CONTEXT.load_cert_chain(sys.argv[4], sys.argv[5])
    # A client that is slow about it holds up no other.
    SERVER.socket = CONTEXT.wrap_socket(
        SERVER.socket, server_side=True, do_handshake_on_connect=False
    )
SERVER.serve_forever()
