//! Compiles the programs of oracle and rack. Objects are loaded by name (see `src/oracle/exit.rs`): no generated code, hence no generated unsafe.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;

const PROGRAMS: [&str; 2] = ["oracle", "rack"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=bpf");
    let out = PathBuf::from(std::env::var("OUT_DIR").context("OUT_DIR")?);
    // `-target bpf` does not look into the folder where Debian keeps asm/types.h
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH")?;
    let asm = Path::new("/usr/include").join(format!("{arch}-linux-gnu"));
    for program in PROGRAMS {
        let source = format!("bpf/{program}.bpf.c");
        SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{program}.bpf.o")))
            .clang_args(["-Wall".into(), "-Werror".into(), "-I".into(), asm.clone().into_os_string()])
            .build()
            .with_context(|| {
                format!(
                    "clang does not compile {source} (apt-get install clang libbpf-dev linux-libc-dev)"
                )
            })?;
    }
    Ok(())
}
