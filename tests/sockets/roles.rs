//! `roles`: an `imd` that runs only a gateway or only access servers, and finds the others through a shared registry.
//!
//! The two stacks of a test run in one process and share a memory registry, in place of one that several processes
//! share.

use std::sync::Arc;

use imd::access::AddError;
use imd::clock::RealClock;
use imd::config::{Role, Roles, Strategy};
use imd::registry::MemoryRegistry;
use imd::{Client, Config, Imd, StartError};

use crate::support::{Wire, gateway, quiet_ports, refuses, start};

/// Returns a config with one role, on ports that stay reserved.
fn only(role: Role) -> Config {
    let mut config = quiet_ports();
    config.roles = Roles(vec![role]);
    config.gateway.strategy = Strategy::RoundRobin;
    config
}

#[tokio::test]
async fn a_gateway_hands_out_the_access_servers_of_another_imd_that_shares_its_registry() {
    let registry = Arc::new(MemoryRegistry::new(Arc::new(RealClock::default())));
    let access = Imd::start_with_registry(only(Role::Access), registry.clone());
    let access = access.await.unwrap();
    let gateway = Imd::start_with_registry(only(Role::Gateway), registry);
    let gateway = gateway.await.unwrap();
    let mut alice = Client::connect(gateway.gateway_addr()).await.unwrap();
    alice.login(1, &access.token(1)).await.unwrap();
    alice.send_p2p(2, "hello").await.unwrap();
    assert!(access.is_online(1) && !gateway.is_online(1));
    assert_eq!(access.report().stored, 1);
    assert_eq!(gateway.shutdown().await.unfinished, 0);
    assert_eq!(access.shutdown().await.unfinished, 0);
}

#[tokio::test]
async fn a_gateway_alone_runs_no_other_server_and_has_no_address_to_hand_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = only(Role::Gateway);
    // A build without the feature refuses a folder.
    config.store.path = cfg!(feature = "durable").then(|| folder.path().join("data"));
    let imd = start(config.clone()).await;
    assert!(imd.access_servers().is_empty() && imd.addresses().access.is_empty());
    for server in &config.access.0 {
        assert!(refuses(server.listen).await);
    }
    assert_eq!(imd.user_api_addr(), config.http.user_listen);
    assert!(refuses(imd.user_api_addr()).await && refuses(imd.group_api_addr()).await);
    assert!(!folder.path().join("data").exists(), "it opens no store");
    let mut wire = Wire::connect(gateway(&imd)).await;
    assert_eq!(wire.ask().await.err_code, 92001);
    let error = imd.add_access("access-4").await.unwrap_err();
    assert!(matches!(error, StartError::Access(AddError::NoRole)));
    imd.reset().await.unwrap();
    assert_eq!(imd.shutdown().await.unfinished, 0);
}

#[tokio::test]
async fn access_servers_alone_serve_clients_that_know_their_address() {
    let config = only(Role::Access);
    let imd = start(config.clone()).await;
    assert_eq!(imd.gateway_addr(), config.gateway.listen);
    assert!(refuses(imd.gateway_addr()).await);
    assert!(!refuses(imd.user_api_addr()).await);
    crate::support::user(&imd, 1).await.ping().await;
    assert_eq!(imd.registry().list().await.len(), 3);
    imd.reset().await.unwrap();
    imd.settled().await;
    assert_eq!(imd.shutdown().await.unfinished, 0);
}
