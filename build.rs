//! Compiles `proto/external` without a `protoc`: protox parses, prost generates.

use std::error::Error;
use std::fs;

const DIR: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={DIR}");
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("{DIR}/external"))? {
        files.push(entry?.path());
    }
    files.sort();
    let descriptors = protox::compile(&files, [DIR])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
