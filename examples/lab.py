"""A notify is lost. A client that only waits for it never learns of the message; one that also syncs now and then does.

    imd exec -- python3 examples/lab.py

Needs only the standard library, the program imd and its admin API. Put your own client in place of send and sync. Exits with 0
when all is as it should be.
"""

import atexit
import json
import os
import subprocess
import sys
import urllib.request

if "IMD_ADMIN" not in os.environ:
    sys.exit("lab.py: run me by: imd exec -- python3 " + sys.argv[0])


def admin(method, path, body=None):
    """Calls the admin API; raises an error for an answer other than 2xx."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["IMD_ADMIN"] + path, data, method=method)
    # No proxy stands between this machine and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.load(answer)


def imd(*args):
    """Starts the program as a client of this stack."""
    command = ["imd", *args, "--gateway", os.environ["IMD_GATEWAY"]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# User 2 waits.
bob = imd("sync", "--uid", "2", "--follow")
atexit.register(bob.kill)
admin("GET", "/v1/wait?since=0&uid=2&cmd=SyncMsg&what=out&timeout=20s")

# The next notify to user 2 is lost.
fault = admin("POST", "/v1/faults", {"name": "lost", "at": "notify", "uid": 2, "drop": True, "times": 1})
mark = admin("GET", "/v1/journal")["mark"]
assert imd("send", "--from", "1", "--to", "2", "first").wait(timeout=30) == 0
hit = admin("GET", f"/v1/wait?since={mark}&what=fault&timeout=20s")
assert hit["detail"] == {"name": "lost", "action": "drop"}, hit
assert [rule["hits"] for rule in admin("GET", "/v1/faults")] == [1]
assert admin("GET", "/v1/state")["ledger"]["delivered"] == 0, "nobody told user 2"

# The next message is told of, and with it comes the one before.
assert imd("send", "--from", "1", "--to", "2", "second").wait(timeout=30) == 0
admin("GET", f"/v1/wait?since={mark}&uid=2&cmd=SyncMsg&what=out&timeout=20s")
texts = [json.loads(bob.stdout.readline())["text"] for _ in range(2)]
assert texts == ["first", "second"], texts
bob.terminate()
assert bob.wait(timeout=30) == 0

ledger = admin("GET", "/v1/state")["ledger"]
assert (ledger["stored"], ledger["delivered"], ledger["lost"]) == (2, 2, 0), ledger
print("both are there once:", texts)
