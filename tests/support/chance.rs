//! Random numbers for tests, with a seed that repeats a run.
//!
//! Serves the tests that try random cases: a failed one prints the seed, and `IMD_SEED` takes it again.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Returns a generator of random numbers. Its seed differs in each run, unless the environment variable `IMD_SEED` gives
/// one, which repeats the run that has printed it. Output is shown only of tests that fail.
pub fn chance() -> StdRng {
    let seed = match std::env::var("IMD_SEED") {
        Ok(seed) => seed.parse().expect("IMD_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("repeat this run by IMD_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
