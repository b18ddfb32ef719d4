"""Counts the results of the Autobahn|Testsuite, and fails unless each case passed or was refused as imd refuses it: a text
message with 1003, and a message of more than 65,535 bytes with 1009."""

import json
import sys

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
REFUSED = {1003: "text, refused with 1003", 1009: "too long, refused with 1009"}

with open(sys.argv[1]) as file:
    cases = json.load(file)["imd"]

counts = {}
failed = []
for name, case in cases.items():
    code = case["remoteCloseCode"]
    if case["behavior"] in PASSED and case["behaviorClose"] in PASSED:
        verdict = "passed"
    elif code in REFUSED:
        verdict = REFUSED[code]
    else:
        verdict = "failed"
        failed.append((name, case["behavior"], case["behaviorClose"], code))
    counts[verdict] = counts.get(verdict, 0) + 1

for verdict, count in sorted(counts.items()):
    print(f"{count:4} {verdict}")
for case in failed:
    print("failed:", *case)
sys.exit(bool(failed or not cases))
