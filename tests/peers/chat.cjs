// One side of the chat of tests/peers/run, with Node's `ws` and the client that the demo's page has.

const WebSocket = require("ws");

globalThis.WebSocket = WebSocket;
const COUNT = 200;

async function main([gateway, uid, token, other]) {
  const { ImdClient } = await import("../../src/admin/demo/imd-client.js");
  const client = await ImdClient.connect(gateway);
  const texts = [];
  const all = new Promise((resolve) => {
    client.on("message", ({ text }) => {
      texts.push(text);
      if (texts.length === COUNT) resolve();
    });
  });
  await client.login(uid, token);
  for (let n = 0; n < COUNT; n++) await client.sendP2P(other, `${uid} says ${n}`);
  await all;
  texts.forEach((text, n) => {
    if (text !== `${other} says ${n}`) throw new Error(`message ${n} is ${text}`);
  });
  await client.logout();
  console.log(`ws ${require("ws/package.json").version}: ${COUNT} messages each way`);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
