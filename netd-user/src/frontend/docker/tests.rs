//! What only a slow kernel shows: late answers. The rest of the contract is checked over a real socket
//! with a real kernel.

use axum::body::Body;
use serde_json::{Value, json};

use super::*;
use crate::controller::testing::{Bench, bench, eventually};
use crate::frontend::tests::FakeTelemetry;

async fn call(bench: &Bench, limit: Duration, method: &str, arguments: &Value) -> (u16, Value) {
    let telemetry = Arc::new(FakeTelemetry::new());
    let plugin = Plugin { controller: bench.controller.clone(), telemetry, limit };
    let request = Request::post(format!("/{method}")).body(Body::from(arguments.to_string()));
    let response = answer(State(plugin), request.unwrap()).await;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), BODY_MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn network() -> Value {
    json!({"NetworkID": "ab".repeat(32), "Options": {}, "IPv4Data": [{"AddressSpace":
        "LocalDefault", "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24"}], "IPv6Data": []})
}

#[tokio::test]
async fn late_change_is_an_error_and_is_taken_back() {
    let bench = bench().await;
    let before = bench.kernel.held();
    bench.kernel.slow_down(Duration::from_millis(300));
    let limit = Duration::from_millis(50);
    let (status, body) = call(&bench, limit, "NetworkDriver.CreateNetwork", &network()).await;
    assert_eq!(status, 500);
    assert!(body["Err"].as_str().unwrap().contains("not done within"), "{body}");
    let applies = bench.kernel.applies();
    eventually("the change and its undoing", || bench.kernel.applies() >= applies + 2).await;
    let nothing = || bench.controller.model().networks.len() == 3 && bench.kernel.held() == before;
    eventually("nothing of it", nothing).await;
}

#[tokio::test]
async fn calls_that_change_nothing_are_answered_while_the_kernel_is_busy() {
    let bench = bench().await;
    bench.kernel.slow_down(Duration::from_secs(3));
    let limit = Duration::from_secs(20);
    let slow = network();
    let slow = call(&bench, limit, "NetworkDriver.CreateNetwork", &slow);
    let mut slow = std::pin::pin!(slow);
    let asked = json!({"NetworkID": "", "EndpointID": ""});
    tokio::select! {
        biased;
        _ = &mut slow => panic!("the kernel was not busy"),
        told = call(&bench, limit, "NetworkDriver.EndpointOperInfo", &asked) => {
            assert_eq!(told, (200, json!({"Value": {}})));
        }
    }
    assert_eq!(slow.await.0, 200);
}
