//! What chance is made from in tests.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Returns a generator whose seed is another one in each run, or that of the environment variable `IMD_SEED`, with which a
/// run that failed is repeated. The test prints the seed, which shows when it fails.
pub fn chance() -> StdRng {
    let seed = match std::env::var("IMD_SEED") {
        Ok(seed) => seed.parse().expect("IMD_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("once more with the same chance: IMD_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
