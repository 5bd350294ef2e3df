//! Compiles `bpf/redirect.bpf.c` with clang and generates its skeleton. Nothing generated is kept in the tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "bpf/redirect.bpf.c";

/// Headers that the programs need, and the Debian packages that bring them.
const HEADERS: [(&str, &str); 2] =
    [("bpf/bpf_helpers.h", "libbpf-dev"), ("linux/bpf.h", "linux-libc-dev")];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let asm = asm_headers(&clang)?;
    for (header, package) in HEADERS {
        let found = ["/usr/include", "/usr/local/include"].map(|dir| Path::new(dir).join(header));
        ensure!(
            found.iter().any(|path| path.exists()),
            "{header} is missing: apt-get install {package}"
        );
    }
    let out = PathBuf::from(std::env::var("OUT_DIR").context("OUT_DIR")?);
    SkeletonBuilder::new()
        .source(SOURCE)
        .clang(&clang)
        .clang_args(["-Wall".into(), "-Werror".into(), "-I".into(), asm.into_os_string()])
        .build_and_generate(out.join("redirect.skel.rs"))
        .with_context(|| format!("clang does not compile {SOURCE}"))?;
    Ok(())
}

/// `linux/types.h` includes `asm/types.h`, which Debian keeps in a folder named after the machine; `-target bpf` does not look there.
fn asm_headers(clang: &str) -> Result<PathBuf> {
    let Ok(output) = Command::new(clang).arg("-print-multiarch").output() else {
        bail!("{clang} is missing: apt-get install clang (or set CLANG)");
    };
    let mut folders = vec![PathBuf::from("/usr/include")];
    let multiarch = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !multiarch.is_empty() {
        folders.insert(0, Path::new("/usr/include").join(multiarch));
    }
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    folders.insert(0, PathBuf::from(format!("/usr/include/{arch}-linux-gnu")));
    folders
        .into_iter()
        .find(|folder| folder.join("asm/types.h").exists())
        .context("asm/types.h is missing: apt-get install linux-libc-dev")
}
