//! Churn at random, beside the other scenarios: three minutes here, an hour by `cargo xtask soak`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netd_tests::soak::{self, Plan};

use super::World;

#[test]
fn three_minutes_of_random_churn_match_the_model_all_the_time() {
    let world = World::new();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let plan = Plan { lasts: Duration::from_mins(3), seed };
    let report = soak::run(&world.host, &world.outside, plan).unwrap();
    println!("seed {seed}: {report:?}\n{}", report.table);
    assert!(report.steps >= 50 && report.probes >= 10, "{report:?}");
}
