//! `POST /v1/access`: access servers that are added to a running stack.
//!
//! An added server serves like the others, at the host of the first one, and under a name that no other server has.

use std::time::Duration;

use imd::StartError;
use imd::access::AddError;
use imd::config::Strategy;

use crate::servers::{addrs, handed_out, registered, server, user_at};
use crate::support::{Wire, addr_of, ephemeral, start, start_manual};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_server_that_is_added_serves_like_the_others() {
    let mut config = ephemeral().manual_clock();
    config.gateway.strategy = Strategy::RoundRobin;
    let imd = start(config).await;
    let added = imd.add_access("access-4").await.unwrap();
    assert_eq!(added.addr().ip(), server(&imd, "access-1").addr().ip());
    let names: Vec<_> = imd
        .access_servers()
        .iter()
        .map(|server| server.name().to_owned())
        .collect();
    assert_eq!(names, ["access-1", "access-2", "access-3", "access-4"]);
    assert_eq!(imd.addresses().access[3].addr, added.addr().to_string());

    let mut ann = user_at(&imd, "access-4", 1).await;
    let mut bob = user_at(&imd, "access-1", 2).await;
    assert_eq!(bob.p2p(1, "m", "x").await.err_code, 0);
    assert_eq!(ann.notified().await, (0, 1));

    assert_eq!(registered(&imd).await.len(), 4);
    assert_eq!(
        handed_out(&imd).await.len(),
        3,
        "the gateway has not looked"
    );
    imd.clock().advance(SECOND * 5).await;
    let all = addrs(&imd, &["access-1", "access-2", "access-3", "access-4"]);
    assert_eq!(handed_out(&imd).await, all);
}

#[tokio::test]
async fn a_server_that_is_added_is_advertised_at_the_host_of_the_first() {
    let mut config = ephemeral();
    config.access.0[0].advertise = Some("im.example.org:443".into());
    let imd = start(config).await;
    let added = imd.add_access("access-4").await.unwrap();
    let expected = format!("im.example.org:{}", added.addr().port());
    assert_eq!(added.advertised(), expected);
}

#[tokio::test]
async fn a_name_that_is_taken_or_invalid_is_refused() {
    let imd = start_manual().await;
    imd.add_access("access-4").await.unwrap();
    server(&imd, "access-2").kill().await;
    for taken in ["access-1", "access-2", "access-4"] {
        let error = imd.add_access(taken).await.unwrap_err();
        assert!(matches!(
            error,
            StartError::Access(AddError::NameTaken { .. })
        ));
        assert_eq!(
            error.to_string(),
            format!("there is an access server {taken} already: give another name")
        );
    }
    for bad in ["", "a b", "a/b"] {
        let error = imd.add_access(bad).await.unwrap_err();
        assert!(
            matches!(error, StartError::Access(AddError::Config(_))),
            "{bad:?}: {error}"
        );
    }
    let (one, other) = tokio::join!(imd.add_access("access-5"), imd.add_access("access-5"));
    assert!(one.is_ok() != other.is_ok());
    assert_eq!(imd.access_servers().len(), 5);
    assert_eq!(registered(&imd).await.len(), 5);
}

#[tokio::test]
async fn a_server_that_is_added_can_be_killed_and_restarted() {
    let imd = start_manual().await;
    let added = imd.add_access("access-4").await.unwrap();
    let mut ann = user_at(&imd, "access-4", 1).await;
    added.kill().await;
    ann.reset().await;
    added.restart().await.unwrap();
    let mut ann = Wire::connect(addr_of(&added)).await;
    ann.login(&imd, 1).await;
}
