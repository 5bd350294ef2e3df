//! pkg-config finds DPDK, bindgen reads its headers, and a generated C file gives the header-only
//! (static inline) functions a symbol. Nothing generated is checked in, so the bindings always
//! belong to the DPDK that is installed.

use std::{env, path::PathBuf, process::exit};

/// What the gateway calls, and no more: a small list keeps the bindings readable and the build fast.
const FUNCTIONS: &[&str] = &[
    "last_errno",
    "rte_version",
    "rte_strerror",
    "rte_eal_(init|remote_launch|wait_lcore)",
    "rte_lcore_(is_enabled|to_socket_id|to_cpu_id)",
    "rte_socket_id",
    "rte_eth_(rx|tx)_burst",
    "rte_eth_dev_(configure|start|stop|close|info_get|socket_id|get_port_by_name|count_avail|set_mtu|get_mtu)",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_rss_(hash_update|hash_conf_get|reta_update|reta_query)",
    "rte_eth_(rx|tx)_queue_setup",
    "rte_eth_macaddr_get",
    "rte_eth_allmulticast_enable",
    "rte_eth_link_get_nowait",
    "rte_eth_stats_get",
    "rte_dev_probe",
    "rte_pktmbuf_(pool_create|alloc|alloc_bulk|free|free_bulk)",
    "rte_mempool_(avail_count|in_use_count|free|lookup)",
    "rte_ring_(create|free|count|enqueue_burst|dequeue_burst)",
    "rte_hash_(create|free|add_key_data|lookup_bulk_data)",
    "rte_flow_destroy",
    "rte_softrss",
    "l4_port_rule_(validate|create)",
    "rte_get_tsc_hz",
    "rte_rdtsc",
    "rte_cpu_get_intrinsics_support",
    "rte_power_(monitor_multi|pause)",
    "rte_eth_get_monitor_addr",
];

const TYPES: &[&str] = &[
    "rte_mbuf",
    "mbuf_offset",
    "rte_mempool",
    "rte_ring",
    "rte_hash",
    "rte_hash_parameters",
    "rte_eth_(conf|dev_info|stats|link|rxconf|txconf|rx_mq_mode|tx_mq_mode)",
    "rte_eth_rss_(conf|reta_entry64)",
    "rte_ether_addr",
    "rte_cpu_intrinsics",
    "rte_flow_error",
    "l4_port_rule",
    "rte_power_monitor_cond",
    "rte_rmt_call_main_t",
];

const VARS: &[&str] = &[
    "MBUF_RX_VLAN_STRIPPED",
    "TX_FAST_FREE",
    "RSS_.*",
    "RTE_PKTMBUF_HEADROOM",
    "RTE_ETHER_MAX_LEN",
    "RTE_ETH_LINK_.*",
    "RTE_MAX_LCORE",
    "RING_F_.*",
    "SOCKET_ID_ANY",
];

fn main() {
    println!("cargo::rerun-if-changed=wrapper.h");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let shims = out.join("static_inlines");

    let dpdk = match pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        Ok(library) => library,
        Err(error) => fail(&format!(
            "DPDK 22.11 or newer was not found by pkg-config: {error}\n\
             Debian and Ubuntu: apt-get install libdpdk-dev dpdk pkg-config\n\
             Elsewhere: set PKG_CONFIG_PATH to the folder that holds libdpdk.pc"
        )),
    };
    if !clang_is_there() {
        fail("libclang was not found, and bindgen needs it: apt-get install libclang-dev clang");
    }

    // DPDK's own flags (-march, -include rte_config.h) must be seen by both compilers: the layout
    // of its structures depends on them.
    let cflags = pkg_config_cflags();
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&cflags)
        .use_core()
        .derive_default(true)
        .derive_debug(false)
        .generate_comments(false)
        .prepend_enum_name(false)
        .layout_tests(true)
        .wrap_static_fns(true)
        .wrap_static_fns_path(&shims)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARS {
        builder = builder.allowlist_var(name);
    }
    let bindings = builder.generate().unwrap_or_else(|e| fail(&format!("bindgen: {e}")));
    bindings
        .write_to_file(out.join("bindings.rs"))
        .unwrap_or_else(|e| fail(&format!("cannot write bindings.rs: {e}")));

    let mut shim = cc::Build::new();
    shim.file(shims.with_extension("c"))
        .include(env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .opt_level(3)
        .warnings(false);
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("dpdk_static_inlines");

    println!("cargo::metadata=version={}", dpdk.version);
}

fn pkg_config_cflags() -> Vec<String> {
    let output = std::process::Command::new(env::var("PKG_CONFIG").unwrap_or("pkg-config".into()))
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|e| fail(&format!("pkg-config --cflags libdpdk: {e}")));
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// bindgen panics deep inside when libclang is missing; asking first gives a readable error.
fn clang_is_there() -> bool {
    std::panic::catch_unwind(bindgen::clang_version).is_ok()
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    exit(1)
}
