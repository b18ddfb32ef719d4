//! Modules of the console by themselves, without a page.

use browser::on_console;
use imd::Config;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_quantiles_follow_from_two_looks_at_the_metrics() {
    on_console(Config::ephemeral(), async |page, _| {
        let script = r#"
            const text = (fast, slow, frames) => String.raw`# HELP imd_request_seconds Time.
# TYPE imd_request_seconds histogram
imd_request_seconds_bucket{le="0.001",cmd="Ping"} ${fast}
imd_request_seconds_bucket{le="0.004",cmd="Ping"} ${fast + slow}
imd_request_seconds_bucket{le="+Inf",cmd="Ping"} ${fast + slow}
imd_request_seconds_bucket{le="0.001",cmd="Login"} 0
imd_request_seconds_bucket{le="0.004",cmd="Login"} 0
imd_request_seconds_bucket{le="+Inf",cmd="Login"} 0
imd_frames_total{direction="in",cmd="Ping"} ${frames}
imd_frames_total{direction="out",cmd="Ping"} 5
imd_fault_hits_total{rule="a \"b\" \\ c"} 3
what is no sample
# EOF
`;
            return import('/console/metrics.js').then(({ parse, sum, rate, quantile, short, span, size }) => {
                const [before, now] = [parse(text(10, 10, 100)), parse(text(110, 110, 140))];
                return [
                    sum(now, 'imd_frames_total'), sum(now, 'imd_frames_total', { direction: 'in' }), sum(now, 'none') ?? null,
                    now.get('imd_fault_hits_total')[0].labels.rule,
                    rate(before, now, 2, 'imd_frames_total', { direction: 'in' }),
                    rate(now, before, 2, 'imd_frames_total', { direction: 'in' }),
                    quantile(before, now, 'imd_request_seconds', 0.5),
                    quantile(before, now, 'imd_request_seconds', 0.75),
                    quantile(now, now, 'imd_request_seconds', 0.5) ?? null,
                    short(1234), short(0), short(undefined), span(0.00025), span(2), size(3 << 20),
                ];
            });
        "#;
        let seen = page.run(script, &[]).await;
        let expected = json!([
            145, 140, null, "a \"b\" \\ c", 20, 0, 0.001, 0.0025, null,
            "1.2k", "0", "–", "250 µs", "2.0 s", "3.0 MiB",
        ]);
        assert_eq!(seen, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_keeps_the_newest_in_their_order() {
    on_console(Config::ephemeral(), async |page, _| {
        let script = "
            return import('/console/ring.js').then(({ Ring }) => {
                const ring = new Ring(2000);
                const fallen = [];
                for (let n = 0; n < 10_000; n += 1) fallen.push(ring.push(n));
                const kept = [...ring];
                return [
                    ring.length, ring.at(0), ring.at(1999), kept.length, kept.every((n, index) => n === 8000 + index),
                    fallen[1999] ?? null, fallen[2000], fallen[9999], ring.shift(), ring.length,
                ];
            });
        ";
        let seen = page.run(script, &[]).await;
        assert_eq!(seen, json!([2000, 8000, 9999, 2000, true, null, 0, 7999, 8000, 1999]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_page_loads_is_seen_by_the_check_for_other_hosts() {
    on_console(Config::ephemeral(), async |page, _| {
        // Without this, a browser remembers 250 entries.
        let script = "
            return Promise.all(Array.from({ length: 300 }, () => fetch('/version').then((told) => told.text())))
                .then(() => performance.getEntries().filter((one) => one.name.endsWith('/version')).length >= 300);
        ";
        page.until("300 entries", script).await;
    })
    .await;
}
