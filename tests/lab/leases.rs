//! Faults at `registry.lease` and `gateway.reply`: lost and late renewals, and which addresses the gateway hands out
//! meanwhile.
//!
//! The lies of the registry itself are tested in `registry`, and leases without faults in `sockets/gateway`.

use std::time::Duration;

use imd::lab::{Fault, Site};
use imd::proto::Code;

use crate::support::{Wire, gateway, start_manual};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);

async fn names(imd: &imd::Imd) -> Vec<String> {
    let records = imd.registry().list().await;
    records.into_iter().map(|record| record.name).collect()
}

fn lease(access: &str) -> Fault {
    Fault::at(Site::RegistryLease).access(access)
}

#[tokio::test]
async fn an_access_server_whose_renewals_are_lost_leaves_the_list_and_goes_on_serving() {
    let imd = start_manual().await;
    let fault = imd.fault(lease("access-1").drop_it());
    imd.clock().advance(10 * SECOND).await;
    assert_eq!(fault.hits(), 2);
    assert_eq!(names(&imd).await, ["access-2", "access-3"]);
    crate::support::user(&imd, 1).await.ping().await;
    drop(fault);
    imd.clock().advance(5 * SECOND).await;
    assert_eq!(names(&imd).await.len(), 3, "it registers again");
}

#[tokio::test]
async fn a_lease_that_is_lost_is_registered_again_at_the_next_heartbeat() {
    let imd = start_manual().await;
    let fault = imd.fault(lease("access-2").error(Code::ServerError).times(1));
    imd.clock().advance(5 * SECOND).await;
    assert_eq!(fault.hits(), 1);
    assert_eq!(names(&imd).await, ["access-1", "access-3"]);
    imd.clock().advance(5 * SECOND).await;
    assert_eq!(names(&imd).await.len(), 3);
}

#[tokio::test]
async fn a_renewal_may_be_later_than_the_end_of_its_lease() {
    let imd = start_manual().await;
    let fault = imd.fault(lease("access-3").delay(7 * SECOND));
    imd.clock().advance(10 * SECOND).await;
    wait_for_hit(&imd, &fault).await;
    assert_eq!(names(&imd).await, ["access-1", "access-2"]);
    imd.clock().advance(2 * SECOND).await;
    assert_eq!(names(&imd).await.len(), 3);
}

#[tokio::test]
async fn a_late_renewal_is_not_made_while_its_server_is_paused() {
    let imd = start_manual().await;
    let fault = imd.fault(lease("access-3").delay(4 * SECOND).times(1));
    imd.clock().advance(5 * SECOND).await;
    wait_for_hit(&imd, &fault).await;
    imd.access("access-3").unwrap().pause().await;
    imd.clock().advance(5 * SECOND).await;
    assert_eq!(names(&imd).await, ["access-1", "access-2"]);
    imd.access("access-3").unwrap().resume().await;
    assert_eq!(names(&imd).await.len(), 3);
}

#[tokio::test]
async fn a_stale_answer_has_an_address_that_is_no_longer_listed() {
    let imd = start_manual().await;
    let gone = imd.access_servers()[1].addr().to_string();
    let mut wire = Wire::connect(gateway(&imd)).await;
    let _fault = imd.fault(Fault::at(Site::GatewayReply).stale());
    // No address has left the list at any time.
    assert!(!wire.ask().await.addr.is_empty());
    imd.access("access-2").unwrap().stop().await;
    imd.clock().advance(5 * SECOND).await;
    for _ in 0..4 {
        assert_eq!(wire.ask().await.addr, gone);
    }
}

#[tokio::test]
async fn an_address_that_is_listed_again_is_not_stale() {
    let imd = start_manual().await;
    let server = imd.access("access-2").unwrap();
    server.stop().await;
    imd.clock().advance(5 * SECOND).await;
    server.restart().await.unwrap();
    imd.clock().advance(5 * SECOND).await;
    let dead = imd.access("access-1").unwrap();
    dead.stop().await;
    imd.clock().advance(5 * SECOND).await;
    let _fault = imd.fault(Fault::at(Site::GatewayReply).stale());
    let mut wire = Wire::connect(gateway(&imd)).await;
    assert_eq!(wire.ask().await.addr, dead.addr().to_string());
}
