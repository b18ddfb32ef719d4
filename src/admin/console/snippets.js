// Examples of clients in several languages, for the page Help. Each asks the gateway for an access server, logs in, and
// prints the answer.

const length = "[length: u16 big-endian][protobuf message]";

/** The largest id, which has no successor. */
const LARGEST = "9223372036854775807";

/** Returns the uid of another user, to whom an example sends. */
const other = (uid) => (uid === LARGEST ? "1" : (BigInt(uid) + 1n).toString());

/** Quotes a word of a command line if needed. The brackets of an IPv6 address would be a pattern to the shell. */
const word = (text) => (/[^\w.:/@%+-]/.test(text) ? `'${text}'` : text);

/** Splits host:port. An IPv6 host is returned without its brackets, which it has only in front of a port. */
function parts(address) {
  const at = address.lastIndexOf(":");
  return [address.slice(0, at).replace(/^\[|\]$/g, ""), address.slice(at + 1)];
}

export function snippets({ gateway, user, admin, uid, token }) {
  const to = other(uid);
  // JavaScript represents numbers of up to fifteen digits exactly. A longer uid is written as a text.
  const literal = uid.length > 15 ? `"${uid}"` : uid;
  const [host, port] = parts(gateway);
  return [
    ["Shell", `imd chat --gateway ${word(gateway)} --uid ${uid}
imd send --gateway ${word(gateway)} --from ${uid} --to ${to} "hello"
imd sync --gateway ${word(gateway)} --uid ${uid} --follow
curl -s -d uid=${uid} -d name=ann -d pw=secret ${word(`${user}/x/user/register`)}
curl -s ${word(`${admin}/v1/state`)}`],
    ["Rust", `let mut client = imd::Client::connect("${gateway}").await?; // gateway -> access
client.login(${uid}, "${token}").await?;
client.send_p2p(${to}, "hello").await?;
let page = client.sync(0, 0).await?;`],
    ["Python", `# ${length}; pip install protobuf, protoc --python_out=. proto/external/*.proto
import socket, struct
from access_pb2 import ReqLogin
from base_pb2 import Error
from gateway_pb2 import ReqAccessServer, ResSelectAccessServerForClient

def call(sock, message, reply):
    data = message.SerializeToString()
    sock.sendall(struct.pack(">H", len(data)) + data)
    (size,) = struct.unpack(">H", sock.recv(2, socket.MSG_WAITALL))
    reply.ParseFromString(sock.recv(size, socket.MSG_WAITALL))
    return reply

with socket.create_connection(("${host}", ${port})) as gateway:
    found = call(gateway, ReqAccessServer(cmd=10001), ResSelectAccessServerForClient())
host, port = found.addr.rsplit(":", 1)
with socket.create_connection((host.strip("[]"), int(port))) as access:
    print(call(access, ReqLogin(cmd=20001, UID=${uid}, token="${token}"), Error()))`],
    ["Node.js", `// ${length}; npm install protobufjs
import net from "node:net";
import protobuf from "protobufjs";
const types = (await protobuf.load(["base", "gateway", "access"].map((name) => \`proto/external/\${name}.proto\`)))
  .lookup("external");

function call(address, request, fields, reply) {
  const at = address.lastIndexOf(":");
  const data = types.lookupType(request).encode(fields).finish();
  return new Promise((resolve, reject) => {
    let read = Buffer.alloc(0);
    const socket = net.connect(Number(address.slice(at + 1)), address.slice(0, at).replace(/[[\\]]/g, ""), () => {
      const head = Buffer.alloc(2);
      head.writeUInt16BE(data.length);
      socket.write(Buffer.concat([head, data]));
    });
    socket.on("error", reject).on("data", (chunk) => {
      read = Buffer.concat([read, chunk]);
      if (read.length < 2 || read.length < 2 + read.readUInt16BE()) return;
      resolve(types.lookupType(reply).decode(read.subarray(2, 2 + read.readUInt16BE())));
      socket.end();
    });
  });
}
const { addr } = await call("${gateway}", "ReqAccessServer", { cmd: 10001 }, "ResSelectAccessServerForClient");
console.log(await call(addr, "ReqLogin", { cmd: 20001, UID: ${literal}, token: "${token}" }, "Error"));`],
    ["Go", `// ${length}; protoc --go_out=. proto/external/*.proto
func call(addr string, request, reply proto.Message) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	data, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	frame := append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...)
	if _, err = conn.Write(frame); err != nil {
		return err
	}
	var size uint16
	if err = binary.Read(conn, binary.BigEndian, &size); err != nil {
		return err
	}
	data = make([]byte, size)
	if _, err = io.ReadFull(conn, data); err != nil {
		return err
	}
	return proto.Unmarshal(data, reply)
}

found := &external.ResSelectAccessServerForClient{}
err := call("${gateway}", &external.ReqAccessServer{Cmd: 10001}, found)
answer := &external.Error{}
err = call(found.Addr, &external.ReqLogin{Cmd: 20001, UID: ${uid}, Token: "${token}"}, answer)`],
  ];
}
