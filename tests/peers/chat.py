"""One side of the chat of tests/peers/run, with Python's `websockets`. Messages are written and read by hand."""

import asyncio
import sys

import websockets

COUNT = 200
ASK, LOGIN, SEND, SYNC, NOTIFY, LOGOUT = 10001, 20001, 20003, 20006, 20007, 20008


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(cmd, fields):
    """Encodes a message: field 1 is the command, the others are numbers or texts."""
    out = b"\x08" + varint(cmd)
    for field, value in fields.items():
        if isinstance(value, str):
            text = value.encode()
            out += varint(field << 3 | 2) + varint(len(text)) + text
        elif value:
            out += varint(field << 3) + varint(value)
    return out


def decode(message):
    """Decodes a message into a list of the values of each field."""
    at, fields = 0, {}

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        value = number()
        if tag & 7 == 2:
            at, value = at + value, message[at : at + value]
        fields.setdefault(tag >> 3, []).append(value)
    return fields


async def reply(socket, cmd):
    """Waits for the reply to a command. Notifies in between are passed over."""
    while True:
        fields = decode(await socket.recv())
        if fields[1] == [cmd]:
            return fields
        assert fields[1] == [NOTIFY], fields


async def main(gateway, uid, token, other):
    uid, other = int(uid), int(other)
    async with websockets.connect(gateway, subprotocols=["imd"]) as socket:
        assert socket.subprotocol == "imd"
        await socket.send(encode(ASK, {}))
        [access] = (await reply(socket, ASK))[6]
    async with websockets.connect(access.decode()) as socket:
        await socket.send(encode(LOGIN, {3: uid, 4: token}))
        assert (await reply(socket, LOGIN))[3] == [b"ok"]
        for n in range(COUNT):
            await socket.send(encode(SEND, {3: uid, 4: other, 6: f"{uid} says {n}"}))
            assert 3 not in await reply(socket, SEND)
        version, texts = 0, []
        while len(texts) < COUNT:
            await socket.send(encode(SYNC, {3: uid, 4: version}))
            page = await reply(socket, SYNC)
            version = page.get(5, [0])[0]
            texts += [decode(entry)[6][0].decode() for entry in page.get(6, [])]
            if not page.get(6):
                # Nothing is there yet: the next message is notified.
                assert decode(await socket.recv())[1] == [NOTIFY]
        assert texts == [f"{other} says {n}" for n in range(COUNT)], texts
        await (await socket.ping())
        await socket.send(encode(LOGOUT, {3: uid}))
        await reply(socket, LOGOUT)
        await socket.wait_closed()
        assert socket.close_code == 1000, socket.close_code
    print(f"websockets {websockets.__version__}: {COUNT} messages each way")


asyncio.run(main(*sys.argv[1:]))
