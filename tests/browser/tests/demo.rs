//! The demo: two users in one page who chat over WebSocket, and the client that it is built on, without the page.

use browser::{Look, Page, look_at, look_at_demo, on_demo, user};
use imd::lab::{Fault, Site};
use imd::proto::{Cmd, Code};
use imd::{Config, Imd};
use serde_json::{Value, json};

/// The largest id. A number of JavaScript can't hold it.
const LARGEST: &str = "9223372036854775807";

/// How the state of a column that is online begins.
const ONLINE: &str = "Online at ws://";

/// Logs a user in, in a column of the page.
async fn log_in(page: &Page<'_>, side: &str, uid: &str) {
    page.until(
        "the gateway",
        "return document.querySelector('#gateway').value",
    )
    .await;
    page.fill(&format!("#user-{side} .login input"), uid).await;
    page.click(&format!("#user-{side} .login button")).await;
    online_at(page, side).await;
}

/// Opens the conversation of a column with a user.
async fn write_to(page: &Page<'_>, side: &str, uid: &str) {
    page.fill(&format!("#user-{side} [name=to]"), uid).await;
    page.press("\u{E007}").await;
    page.reads(&format!("#user-{side} .talk h3"), &format!("With {uid}"))
        .await;
}

/// Sends a text in the open conversation of a column.
async fn say(page: &Page<'_>, side: &str, text: &str) {
    page.fill(&format!("#user-{side} .talk input"), text).await;
    page.press("\u{E007}").await;
}

/// Returns the state of a column that is online, with its address. Between a notify and its page, the state is another one.
async fn online_at(page: &Page<'_>, side: &str) -> String {
    loop {
        page.reads(&format!("#user-{side} .state[data-is=online]"), ONLINE)
            .await;
        let state = page.text(&format!("#user-{side} .state")).await;
        if state.starts_with(ONLINE) {
            return state;
        }
    }
}

/// Kills the access server to which a column is connected, and returns its name.
async fn kill_server_of(page: &Page<'_>, imd: &Imd, side: &str) -> String {
    let state = online_at(page, side).await;
    let servers = imd.access_servers();
    let server = servers
        .iter()
        .find(|server| state.ends_with(&server.ws_addr().unwrap().port().to_string()))
        .expect(&state);
    server.kill().await;
    server.name().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_write_to_each_other_and_to_a_group() {
    on_demo(async |page, imd| {
        log_in(page, "left", LARGEST).await;
        log_in(page, "right", "2").await;
        write_to(page, "left", "2").await;
        say(page, "left", "<b>hello</b> 你好").await;
        page.reads("#user-right .line .body", "<b>hello</b> 你好")
            .await;
        page.reads("#user-right .line b", LARGEST).await;
        page.reads("#user-right .line .status", "v1 · accepted")
            .await;
        page.reads("#user-left .line.is-mine .status", "stored · accepted: 1")
            .await;
        page.reads("#user-left [data-count=accepted]", "1").await;
        // Without the box, a message is accepted by its button.
        page.click("#user-left .check input").await;
        say(page, "right", "well?").await;
        page.reads("#user-left .line:not(.is-mine) .body", "well?")
            .await;
        page.reads("#user-right .line.is-mine .status", "stored")
            .await;
        page.click("#user-left .line:not(.is-mine) button").await;
        page.reads("#user-right .line.is-mine .status", "stored · accepted: 1")
            .await;
        // The members of a group all get its messages, the sender too: as a version, and not as a second line.
        page.click("#user-left .side summary").await;
        page.fill("#user-left [name=group]", "team").await;
        page.fill("#user-left [name=members]", "2, 3").await;
        page.click("#user-left .new-group button").await;
        page.reads("#user-left .talk h3", "With team").await;
        say(page, "left", "to all").await;
        page.reads("#user-left .line.is-mine .status", "stored · v")
            .await;
        page.reads("#user-right [data-talk^=group] .badge", "1")
            .await;
        page.click("#user-right [data-talk^=group]").await;
        page.reads("#user-right .line .body", "to all").await;
        assert_eq!(page.count("#user-left .line").await, 1);
        let third = user(imd, 3).await.sync(0, 0).await.unwrap();
        assert_eq!(third.messages[0].text, "to all");
        // A refusal is shown at the message that it is about.
        write_to(page, "right", "0").await;
        say(page, "right", "nobody").await;
        page.reads("#user-right .line.is-refused .status", "targetUID")
            .await;
        page.click("#user-left .log-out").await;
        page.sees("#user-left .login").await;
        assert!(
            page.run("return location.hash", &[])
                .await
                .as_str()
                .unwrap()
                .ends_with(",2")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_are_caught_up_after_an_access_server_has_died() {
    on_demo(async |page, imd| {
        log_in(page, "left", "1").await;
        log_in(page, "right", "2").await;
        write_to(page, "right", "1").await;
        say(page, "right", "before").await;
        page.reads("#user-left .line .body", "before").await;
        // The user comes back only when all messages are stored: else the page would see some of them arrive.
        let refused = Fault::at(Site::AccessLogin).uid(2).error(Code::ServerError);
        let refused = imd.fault(refused);
        let killed = kill_server_of(page, imd, "right").await;
        page.sees("#user-right .state:is([data-is=waiting], [data-is=connecting])").await;
        // What the user writes now is sent when the connection is there again.
        say(page, "right", "from afar").await;
        page.reads("#user-right .line.is-mine .status", "sending").await;
        let mut servers = imd.access_servers().into_iter();
        let alive = servers.find(|server| server.name() != killed).unwrap();
        let mut sender = imd::Client::connect_to(alive.addr()).await.unwrap();
        sender.login(3, &imd.token(3)).await.unwrap();
        for n in 1..=1000 {
            sender.send_p2p(2, &format!("message {n}")).await.unwrap();
        }
        drop(refused);
        page.click("#user-right [data-talk='p2p:3']").await;
        page.until("1,000 lines", "return document.querySelectorAll('#user-right .line').length === 1000").await;
        page.reads("#user-right .level", "Read 1002 of 1002").await;
        page.reads("#user-right .events", "Caught up: 100").await;
        page.reads("#user-right .events", "Sent again under their old ids: 1").await;
        page.reads("#user-left .line .body", "from afar").await;
        let texts = "return [...document.querySelectorAll('#user-right .line .body')].map((one) => one.textContent)";
        let expected: Vec<String> = (1..=1000).map(|n| format!("message {n}")).collect();
        assert_eq!(page.run(texts, &[]).await, json!(expected));
        page.is_forgiven("WebSocket").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_and_repeats_nothing() {
    on_demo(async |page, imd| {
        log_in(page, "left", "1").await;
        log_in(page, "right", "2").await;
        write_to(page, "left", "2").await;
        for _ in 0..5 {
            page.click("#user-left .many").await;
            page.click("#user-left .cut:not(:disabled)").await;
            page.click("#user-right .cut:not(:disabled)").await;
        }
        page.until(
            "500 lines",
            "return document.querySelectorAll('#user-right .line').length === 500",
        )
        .await;
        page.reads("#user-left [data-count=stored]", "500").await;
        page.reads("#user-left [data-count=accepted]", "500").await;
        page.sees("#user-right .state[data-is=online]").await;
        let mut elsewhere = user(imd, 2).await;
        assert_eq!(elsewhere.sync(0, 0).await.unwrap().total, 500);
        // The login of the test has ended the session of the page, which does not take it back by itself.
        page.reads("#user-right .state[data-is=closed]", "logged in elsewhere")
            .await;
        page.click("#user-right .again").await;
        page.sees("#user-right .state[data-is=online]").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_websocket_listeners_it_says_what_to_set() {
    look_at(
        Look::default(),
        "/demo/",
        Config::ephemeral(),
        async |page, _| {
            page.reads("#no-gateway", "ws_listen").await;
            page.reads("#no-gateway", "--ws").await;
            page.click("#user-left .login button").await;
            page.sees(".notice.bad").await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_phone_speaks_chinese_and_every_control_has_a_name() {
    let look = Look {
        language: "zh-CN",
        dark: true,
        size: (360, 740),
    };
    look_at_demo(look, async |page, _| {
        let named = "const has = (one) => one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length;
            return [...document.querySelectorAll('button, input, a, progress')].every(has)";
        page.reads("#user-left .login button", "登录").await;
        assert!(page.fits().await);
        page.click("#language").await;
        log_in(page, "left", LARGEST).await;
        log_in(page, "right", "2").await;
        write_to(page, "left", "2").await;
        say(page, "left", &"a long word ".repeat(50)).await;
        say(page, "left", &"w".repeat(400)).await;
        page.until("2 lines", "return document.querySelectorAll('#user-right .line').length === 2").await;
        assert!(page.fits().await);
        assert_eq!(page.run(named, &[]).await, json!(true));
        // Another language builds the page anew, from what it knows.
        page.click("#language").await;
        page.reads("#user-left .line .status", "已存储").await;
        assert_eq!(page.count("#user-right .line").await, 2);
        page.click("#user-right .cut").await;
        page.reads("#user-right .events", "连接丢失").await;
        page.reads("#user-right .state[data-is=online]", "在线").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_client_sends_a_message_again_whose_answer_is_lost() {
    on_demo(async |page, imd| {
        let lost = Fault::at(Site::AccessReply).cmd(Cmd::SendP2PMsg).uid(1).times(2);
        let _lost = imd.fault(lost.drop_it());
        let script = "
            return import('/demo/imd-client.js').then(async ({ ImdClient }) => {
                const client = await ImdClient.connect(arguments[0], { timeout: 300, minPause: 20, maxPause: 100 });
                const happened = [];
                client.on('close', ({ error, retryIn }) => happened.push(`${error.message}, ${retryIn !== null}`));
                client.on('login', ({ again }) => happened.push(`login, ${again}`));
                await client.login(1n, arguments[1]);
                const { msgID } = await client.sendP2P('2', 'once', 'an id');
                await client.logout();
                return [msgID, client.state, ...happened];
            });
        ";
        let gateway = format!("ws://{}", imd.gateway_ws_addr().unwrap());
        let seen = page.run(script, &[json!(gateway), json!(imd.token(1))]).await;
        let lost = "no answer within 300 ms, true";
        assert_eq!(
            seen,
            json!(["an id", "closed", "login, 0", lost, "login, 1", lost, "login, 1", "closed by this client, false"])
        );
        let inbox = user(imd, 2).await.sync(0, 0).await.unwrap();
        assert_eq!(inbox.messages.len(), 1);
        assert_eq!(inbox.messages[0].text, "once");
    })
    .await;
}

/// Returns the name and the message of each frame in a file, in base16 and without the length.
fn frames(file: &str) -> Vec<(&str, &str)> {
    let lines = file.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let frames: Vec<_> = lines
        .map(|line| line.split_once(char::is_whitespace).unwrap())
        .map(|(name, frame)| (name, &frame.trim()[4..]))
        .collect();
    assert!(frames.len() > 3);
    frames
}

/// Calls a function that uses the codec of the client, and returns its result. `bytes` and `hex` convert frames from and to
/// base16, and `text` writes a decoded message as JSON, in which a BigInt is a text such as `1n`.
async fn in_codec(page: &Page<'_>, function: &str, arguments: &[Value]) -> Value {
    let script = format!(
        "const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
         const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
         const text = (value) => JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? `${{one}}n` : one));
         return import('/demo/imd-client.js').then(({{ encode, decode, REQUESTS, REPLIES }}) => ({function})(...arguments));"
    );
    page.run(&script, arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn its_codec_writes_and_reads_the_frames_of_existing_clients() {
    let requests = frames(include_str!("../../wire/p2p-client.hex"));
    let replies = frames(include_str!("../../wire/server-replies.hex"));
    on_demo(async |page, _| {
        let again = "(frame) => { const cmd = decode(REQUESTS[10001], bytes(frame)).cmd;
            return hex(encode(REQUESTS[cmd], decode(REQUESTS[cmd], bytes(frame)))); }";
        for (name, frame) in requests {
            assert_eq!(in_codec(page, again, &[json!(frame)]).await, json!(frame), "{name}");
        }
        let read = "(frame) => text(decode(REPLIES[decode(REQUESTS[10001], bytes(frame)).cmd], bytes(frame)))";
        for ((name, frame), expected) in replies.into_iter().zip([
            r#"{"cmd":10001,"cmdStr":"","errCode":0,"errStr":"ok","addr":"127.0.0.1:21900","wsAddr":""}"#,
            r#"{"cmd":20001,"errCode":0,"errStr":"ok"}"#,
            r#"{"cmd":20002,"errCode":0,"errStr":"ok"}"#,
            r#"{"cmd":20003,"cmdStr":"","errCode":0,"errStr":"ok","sourceUID":"0n","targetUID":"0n","msgID":"","msg":""}"#,
            r#"{"cmd":20007,"cmdStr":"","errCode":0,"errStr":"ok","currentID":"3n","totalID":"0n"}"#,
        ]) {
            assert_eq!(in_codec(page, read, &[json!(frame)]).await, json!(expected), "{name}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_codec_holds_every_int64_skips_what_it_does_not_know_and_refuses_what_is_cut_off() {
    on_demo(async |page, _| {
        let pass = "(number) => decode([[3, 'n', 'int64']], encode([[3, 'n', 'int64']], { n: BigInt(number) })).n.toString()";
        for number in ["0", "1", "127", "128", "-1", "9007199254740993", LARGEST, "-9223372036854775808"] {
            assert_eq!(in_codec(page, pass, &[json!(number)]).await, json!(number));
        }
        // A text that is zero is a text; an id that is zero is not sent.
        let zeros = "() => hex(encode(REQUESTS[20003], { cmd: 0, targetUID: '0', sourceUID: 0n, msg: '0' }))";
        assert_eq!(in_codec(page, zeros, &[]).await, json!("320130"));
        // A byte order mark stays in its text, and bytes that are not UTF-8 are replaced.
        let shape = "[[1, 'a', 'uint32'], [2, 'b', 'string'], [6, 'list', [[1, 'c', 'int64']]]]";
        let read = format!("(frame) => text(decode({shape}, bytes(frame)))");
        for (frame, expected) in [
            ("", r#"{"a":0,"b":"","list":[]}"#),
            ("1204efbbbf61", "{\"a\":0,\"b\":\"\u{feff}a\",\"list\":[]}"),
            ("1201ff", "{\"a\":0,\"b\":\"\u{fffd}\",\"list\":[]}"),
            // Unknown fields of each wire type, the last one with the largest number.
            ("1805210102030405060708 2a03616263 3d01020304 f8ffffff0f01 0807", r#"{"a":7,"b":"","list":[]}"#),
            // The same number with another type, and a field that comes twice.
            ("1005 0a0161 0801 0802", r#"{"a":2,"b":"","list":[]}"#),
            ("3202 0801 3200", r#"{"a":0,"b":"","list":[{"c":"1n"},{"c":"0n"}]}"#),
        ] {
            let seen = in_codec(page, &read, &[json!(frame.replace(' ', ""))]).await;
            assert_eq!(seen, json!(expected), "{frame}");
        }
        let fails = format!(
            "(frame) => {{ try {{ return text(decode({shape}, bytes(frame))); }} catch (error) {{ return error.name; }} }}"
        );
        for frame in ["08", "0880", "1205616263", "12", "32020880", "ffffffffffffffffffffff01", "0b", "0f", "2101020304", "12ffffffffffffffff7f"] {
            assert_eq!(in_codec(page, &fails, &[json!(frame)]).await, json!("RangeError"), "{frame}");
        }
    })
    .await;
}
