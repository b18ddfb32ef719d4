//! The page Wire: the frames of the journal, filtered, followed and exported.

use std::sync::Arc;

use browser::{Page, on_console, user};
use imd::lab::{Capture, Direction, EventKind, Fault, Record, Site};
use imd::proto::Cmd;
use imd::{Client, Config, Imd};
use serde_json::{Value, json};

const MARKUP: &str = "<img src=x onerror=alert(1)> 你好";

/// Records frames in the journal as if they had passed.
fn pass(imd: &Imd, count: usize, frame: &[u8]) {
    let server: Arc<str> = "access-1".into();
    for _ in 0..count {
        imd.journal().push(Record {
            what: EventKind::Frame(Direction::In),
            server: &server,
            session: Some(1),
            uid: Some(7.into()),
            cmd: Some(Cmd::Ping),
            frame,
        });
    }
}

/// Waits until the page says how many frames it shows, of how many it keeps.
async fn counts(page: &Page<'_>, text: &str) {
    page.until(
        text,
        &format!("return document.querySelector('#wire-count').textContent === '{text}'"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_shown_as_they_pass_with_fields_bytes_and_session() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("wire").await;
        page.sees("#wire-empty").await;
        let mut ann = user(imd, 1).await;
        ann.send_p2p(2, MARKUP).await.unwrap();
        page.reads(".row[data-what=in] .summary", MARKUP).await;
        page.reads(".row[data-what=out] .cmd", "SendP2PMsg").await;
        page.run(
            "[...document.querySelectorAll('.row[data-what=in]')].at(-1).click()",
            &[],
        )
        .await;
        page.reads("#wire-details .fields", MARKUP).await;
        page.reads("#wire-details .hex", "0000  08 a3 9c 01").await;
        page.reads("#wire-details", "uid 1").await;
        assert_eq!(page.count("main img").await, 0);
        page.click("#wire-close").await;
        page.misses("#wire-details").await;
        assert_eq!(page.text(".row[data-what=opened] .cmd").await, "opened");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_narrowed_down_and_a_link_shows_the_same_again() {
    on_console(Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 1).await;
        let mut bob = user(imd, 2).await;
        ann.send_p2p(3, "to the third").await.unwrap();
        ann.send_p2p(0, "to nobody").await.unwrap_err();
        bob.ping().await.unwrap();
        page.go("wire").await;
        let shows = async |count: usize| counts(page, &format!("{count} of 12")).await;
        shows(12).await;
        page.fill("#wire-uid", "2").await;
        // The reply to the login, the ping and its reply. The login request has no user yet.
        shows(3).await;
        page.fill("#wire-uid", "1").await;
        shows(5).await;
        page.select("#wire-cmd", "SendP2PMsg").await;
        shows(4).await;
        page.select("#wire-what", "out").await;
        shows(2).await;
        page.click("#wire-errors").await;
        shows(1).await;
        page.reads(".row.error .summary", "errCode 10001").await;
        let link = page.run("return location.hash", &[]).await;
        assert_eq!(link, "#/wire?uid=1&cmd=SendP2PMsg&what=out&errors=1");
        page.reload().await;
        shows(1).await;
        page.go("wire?text=third").await;
        shows(1).await;
        page.go("wire?server=access-2").await;
        shows(0).await;
        // The filters show what is chosen, even if there is no such server, event or command.
        page.go("wire?server=access-9&what=bogus&cmd=Nothing").await;
        shows(0).await;
        let chosen = "return ['server', 'what', 'cmd'].map((name) =>
            document.querySelector(`#wire-${name}`).selectedOptions[0].textContent).join()";
        assert_eq!(page.run(chosen, &[]).await, "access-9,bogus,Nothing");
        // A server that was added after the page was opened can be chosen.
        let added = imd.add_access("access-4").await.unwrap();
        let mut eve = Client::connect_to(added.addr()).await.unwrap();
        eve.login(4, &imd.token(4)).await.unwrap();
        page.select("#wire-what", "").await;
        page.select("#wire-cmd", "").await;
        page.select("#wire-server", "access-4").await;
        let shows = async |count: usize| counts(page, &format!("{count} of 15")).await;
        shows(3).await;
        page.go("wire?session=2").await;
        page.reads("#wire-count", " of 15").await;
        assert!(page.count(".row").await > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_pauses_goes_on_and_is_cleared() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("wire").await;
        pass(imd, 3, b"");
        counts(page, "3 of 3").await;
        page.click("#wire-pause").await;
        pass(imd, 4, b"");
        counts(page, "3 of 7 · paused, 4 wait").await;
        // The page stays paused while filters change.
        page.fill("#wire-uid", "7").await;
        page.until("the filter", "return location.hash === '#/wire?uid=7'")
            .await;
        counts(page, "3 of 7 · paused, 4 wait").await;
        page.fill("#wire-uid", "8").await;
        counts(page, "0 of 7").await;
        page.press("\u{E003}").await;
        page.until("no filter", "return location.hash === '#/wire'")
            .await;
        counts(page, "3 of 7 · paused, 4 wait").await;
        page.click("#wire-pause").await;
        counts(page, "7 of 7").await;
        page.click("#wire-clear").await;
        counts(page, "0 of 0").await;
        pass(imd, 1, b"");
        counts(page, "1 of 1").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_exported_as_a_record() {
    on_console(Config::ephemeral(), async |page, imd| {
        let mut ann = user(imd, 1).await;
        ann.send_p2p(2, MARKUP).await.unwrap();
        page.go("wire").await;
        counts(page, "5 of 5").await;
        page.click("#wire-export").await;
        page.is_told("Exported").await;
        let text = page.gets("imd.rec").await;
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            lines[0],
            json!({ "format": "imd-record", "version": 1, "imd": "0.1.0" })
        );
        let whats: Vec<_> = lines[1..].iter().map(|line| &line["what"]).collect();
        assert_eq!(whats, ["opened", "in", "out", "in", "out"]);
        assert_eq!(
            (&lines[1]["us"], &lines[1]["server"]),
            (&json!(0), &json!("access-1"))
        );
        assert_eq!(lines[4]["frame"]["msg"], MARKUP);
        assert_eq!(
            (&lines[4]["uid"], &lines[4]["cmd"]),
            (&json!(1), &json!("SendP2PMsg"))
        );
        let bytes = lines[4]["bytes"].as_str().unwrap();
        assert!(bytes.starts_with("08a39c01"), "{bytes}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_seen_where_it_hits() {
    on_console(Config::ephemeral(), async |page, imd| {
        let fault = imd.fault(Fault::at(Site::Notify).named("hush").drop_it());
        page.go("wire?errors=1").await;
        let _bob = user(imd, 2).await;
        user(imd, 1).await.send_p2p(2, "hello").await.unwrap();
        page.reads(".row[data-what=fault] .summary", "fault hush: drop")
            .await;
        assert_eq!(fault.hits(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_frames_are_kept_in_a_few_rows() {
    on_console(Config::ephemeral(), async |page, imd| {
        page.go("wire").await;
        for round in 1..=6 {
            // Fewer frames than the daemon keeps, so none is missed.
            pass(imd, 20_000, b"");
            let kept = (round * 20_000).min(100_000);
            let kept = format!("{},000", kept / 1_000);
            counts(page, &format!("{kept} of {kept}")).await;
        }
        page.misses("#wire-missed").await;
        let last = "return [...document.querySelectorAll('.row')].some((row) => row.item.seq === 119999 && row.checkVisibility())";
        page.until("the newest", last).await;
        for share in ["0", "0.5", "0.25", "1"] {
            let scroll = format!("const list = document.querySelector('#wire-list'); list.scrollTop = list.scrollHeight * {share}");
            page.run(&scroll, &[]).await;
            let place = format!(
                "const list = document.querySelector('#wire-list').getBoundingClientRect();
                 return [...document.querySelectorAll('.row')].some((row) => {{
                     const box = row.getBoundingClientRect();
                     const is_seen = box.bottom > list.top && box.top < list.bottom;
                     return is_seen && Math.abs(row.item.seq - (20000 + 99999 * {share})) < 40;
                 }})"
            );
            page.until(&format!("frames at {share}"), &place).await;
            assert!(page.count(".row").await < 80);
        }
        // Keys move from frame to frame, and back to the newest.
        page.run("document.querySelector('#wire-list').focus()", &[]).await;
        page.press("\u{E011}").await;
        page.reads("#wire-details .fields", "20000").await;
        page.press("\u{E015}").await;
        page.reads("#wire-details .fields", "20001").await;
        page.press("\u{E00C}").await;
        page.misses("#wire-details").await;
    })
    .await;
}

/// Hides the page until it has closed its connection and the daemon records no more.
async fn hide_for_long(page: &Page<'_>) {
    page.hide().await;
    page.reads("#status", "Hidden").await;
    let rests = "return fetch('/v1/state').then((told) => told.json()).then((state) => !state.journal.records)";
    page.until("nobody records", rests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_page_reads_nothing_and_says_what_it_missed() {
    let mut config = Config::ephemeral();
    config.journal.events = 100;
    config.journal.capture = Capture::Auto;
    on_console(config, async |page, imd| {
        page.go("wire").await;
        pass(imd, 10, b"");
        counts(page, "10 of 10").await;
        page.hide().await;
        // The frames are far larger than the buffers of the sockets on the way.
        pass(imd, 2_000, &[0; 30_000]);
        hide_for_long(page).await;
        assert_eq!(page.text("#wire-count").await, "10 of 10");
        page.show().await;
        page.until(
            "the newest",
            "return [...document.querySelectorAll('.row')].some((row) => row.item.seq === 2009)",
        )
        .await;
        page.reads("#wire-missed", " missed").await;
        let sums = page.run(
            "const [shown, missed] = ['#wire-count', '#wire-missed'].map((css) =>
                 Number.parseInt(document.querySelector(css).textContent.replace(/,/g, ''), 10));
             return shown + missed",
            &[],
        );
        assert_eq!(sums.await, 2_010);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_nobody_recorded_are_counted_as_missed() {
    let mut config = Config::ephemeral();
    config.journal.capture = Capture::Auto;
    on_console(config, async |page, imd| {
        page.go("wire").await;
        page.reads("#status", "Live").await;
        let mut ann = user(imd, 1).await;
        counts(page, "3 of 3").await;
        hide_for_long(page).await;
        for _ in 0..5 {
            ann.ping().await.unwrap();
        }
        page.show().await;
        page.reads("#wire-missed", "10 missed").await;
        ann.ping().await.unwrap();
        counts(page, "5 of 5").await;
        assert_eq!(page.text("#wire-missed").await, "10 missed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_hidden_leave_the_connections_to_the_one_that_is_seen() {
    on_console(Config::ephemeral(), async |page, _| {
        for _ in 0..7 {
            page.reads("#status", "Live").await;
            page.hide().await;
            page.goes_on_in_a_new_tab().await;
        }
        page.reads("#status", "Live").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_imd_at_the_same_address_is_read_from_its_beginning() {
    let mut config = Config::ephemeral();
    config.journal.capture = Capture::Auto;
    on_console(config, async |page, imd| {
        page.go("wire").await;
        pass(imd, 3, b"");
        counts(page, "3 of 3").await;
        page.click("#wire-clear").await;
        counts(page, "0 of 0").await;
        hide_for_long(page).await;
        // The daemon answers as if it had been started again, and had recorded more events than before.
        let script = "const real = window.fetch;
            window.fetch = async (path, options) => {
                const answer = await real(path, options);
                if (new URL(path).pathname !== '/v1/state') return answer;
                return Response.json({ ...await answer.json(), instance: 'another' });
            }";
        page.run(script, &[]).await;
        page.show().await;
        counts(page, "3 of 3").await;
        page.misses("#wire-missed").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_hidden_before_anything_passed_says_what_it_missed() {
    let mut config = Config::ephemeral();
    config.journal.events = 100;
    config.journal.capture = Capture::Auto;
    on_console(config, async |page, imd| {
        page.go("wire").await;
        page.reads("#status", "Live").await;
        hide_for_long(page).await;
        pass(imd, 150, b"");
        page.show().await;
        counts(page, "100 of 100").await;
        page.reads("#wire-missed", "50 missed").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_ids_of_any_size_are_told_apart_and_exported_as_they_are() {
    on_console(Config::ephemeral(), async |page, imd| {
        let [even, odd, largest] = [1 << 53, (1 << 53) + 1, i64::MAX];
        let mut one = user(imd, even).await;
        let mut other = user(imd, odd).await;
        one.ping().await.unwrap();
        other.send_p2p(largest, "hello").await.unwrap();
        page.go(&format!("wire?uid={odd}")).await;
        // The reply to the login, the message and its reply.
        counts(page, "3 of 10").await;
        page.reads(".row .uid", &odd.to_string()).await;
        page.reads(".row .summary", &format!("targetUID {largest}"))
            .await;
        page.fill("#wire-uid", &even.to_string()).await;
        counts(page, "3 of 10").await;
        page.reads(".row .uid", &even.to_string()).await;
        page.fill("#wire-uid", &format!("{}", even + 2)).await;
        counts(page, "0 of 10").await;
        page.go("wire?cmd=SendP2PMsg&what=in").await;
        page.click(".row").await;
        page.reads("#wire-details .fields", &largest.to_string())
            .await;
        let written = page
            .run(
                "return Promise.all([import('/console/record.js'), import('/console/journal.js')]).then(([{ record }, { journal }]) =>
                     record([...journal.events].filter(({ cmd, what }) => cmd === 'SendP2PMsg' && what === 'in'), 'x')[1])",
                &[],
            )
            .await;
        let line: Value = serde_json::from_str(written.as_str().unwrap()).unwrap();
        assert_eq!(
            (&line["uid"], &line["frame"]["targetUID"]),
            (&json!(odd), &json!(largest))
        );
        assert!(line["session"].is_u64(), "{line}");
        assert!(!written.as_str().unwrap().contains("_str"), "{written}");
    })
    .await;
}
