#!/bin/sh
# All access servers die, while the gateway still hands out their addresses; then they come back.
#
#   imd exec -- sh examples/lab.sh
#
# Put your own client in place of `imd send` and `imd sync`. Exits with 0 when all is as it should be.
set -eu

fail() {
    echo "lab.sh: $1" >&2
    exit 1
}

# imd exec sets these variables. The commands that ask the admin API find it by them.
: "${IMD_ADMIN:?run me by: imd exec -- sh $0}"
servers="access-1 access-2 access-3"

for server in $servers; do
    imd access kill "$server" > /dev/null
done
if imd send --gateway "$IMD_GATEWAY" --from 1 --to 2 hello; then
    fail "a dead server took a message"
fi

for server in $servers; do
    imd access restart "$server" > /dev/null
done
# The next message of user 1 is refused as by a full disk.
imd fault add --name full --at store.write --uid 1 --error 90001 --times 1 > /dev/null
if imd send --gateway "$IMD_GATEWAY" --from 1 --to 2 hello; then
    fail "a full disk took a message"
fi
imd fault ls | grep -q '"hits":1' || fail "the fault was not met"
imd send --gateway "$IMD_GATEWAY" --from 1 --to 2 hello

inbox=$(imd sync --gateway "$IMD_GATEWAY" --uid 2)
test "$(echo "$inbox" | wc -l)" -eq 1 || fail "not exactly one message: $inbox"
imd state | grep -q '"lost": 0' || fail "something was lost"
echo "it is there once: $inbox"
