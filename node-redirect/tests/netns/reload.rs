//! Policy files change in every way that files do, and are sometimes wrong.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use ipnet::IpNet;
use rustix::process::Signal;

use crate::common::node::*;
use crate::common::{in_private_namespaces, sh};

/// Sets that differ in one excluded CIDR.
fn documents(n: u8) -> String {
    DOCUMENTS.replace("8.8.0.0/16", &excluded(n))
}

fn excluded(n: u8) -> String {
    format!("8.{n}.0.0/16")
}

fn is_in_force(n: u8) -> bool {
    node_redirect_ok(&["list"]).contains(&excluded(n))
}

fn wait_for_set(n: u8, how: &str) {
    wait_until(&format!("set {n} is in force: {how}"), || is_in_force(n));
}

/// The agent's own view of itself.
fn status() -> serde_json::Value {
    let answer = get("/v1/status").unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

fn metric(name: &str) -> u64 {
    let metrics = get("/metrics").unwrap();
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn generation() -> u32 {
    maps().settings().unwrap().generation
}

fn rename_over(file: &str, text: &str) {
    fs::write(format!("{file}.new"), text).unwrap();
    fs::rename(format!("{file}.new"), file).unwrap();
}

#[test]
fn files_are_followed_in_whatever_way_they_change() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        node.start();

        rename_over(POLICY, &documents(1));
        wait_for_set(1, "renamed over");
        fs::write(POLICY, documents(2)).unwrap();
        wait_for_set(2, "written in place");

        // The file's first half is valid by itself and would take the pod's policy away.
        let whole = documents(3);
        let mut file = OpenOptions::new().write(true).truncate(true).open(POLICY).unwrap();
        let documents_of = |text: &str| text.matches("kind:").count();
        let half =
            whole.find("---\napiVersion: egress-gateway.io/v1alpha1\nkind: EgressNode").unwrap();
        file.write_all(&whole.as_bytes()[..half]).unwrap();
        assert!(documents_of(&whole[..half]) < documents_of(&whole));
        // Nothing is to happen, and nothing tells that it does not.
        std::thread::sleep(node_redirect::watch::QUIET * 5);
        assert!(is_in_force(2), "who writes may take a while");
        file.write_all(&whole.as_bytes()[half..]).unwrap();
        drop(file);
        wait_for_set(3, "written in place, in two steps");

        // One that stays half written is not valid, and the set before stays.
        let mut file = OpenOptions::new().write(true).truncate(true).open(POLICY).unwrap();
        let cut = whole.find("destinationCIDRs").unwrap() + 5;
        file.write_all(&whole.as_bytes()[..cut]).unwrap();
        wait_until("it is told", || status()["policyError"].is_string());
        assert!(is_in_force(3));
        file.write_all(&documents(4).as_bytes()[cut..]).unwrap();
        drop(file);
        wait_for_set(4, "completed");
        wait_until("and that is told", || status()["policyError"].is_null());

        fs::write(POLICY, "").unwrap();
        wait_until("an empty file is no set", || {
            status()["policyError"]
                .as_str()
                .is_some_and(|error| error.contains("there is no document"))
        });
        assert!(is_in_force(4));
        fs::remove_file(POLICY).unwrap();
        wait_until("nor is none", || {
            status()["policyError"].as_str().is_some_and(|error| error.contains("cannot read"))
        });
        assert!(is_in_force(4));
        fs::write(POLICY, documents(5)).unwrap();
        wait_for_set(5, "removed and put back");

        let folder = Path::new(POLICY).parent().unwrap();
        fs::rename(folder, "/run/old").unwrap();
        fs::create_dir(folder).unwrap();
        fs::write(POLICY, documents(6)).unwrap();
        wait_for_set(6, "in another folder of the same name");
        fs::write(POLICY, documents(7)).unwrap();
        wait_for_set(7, "and there again");

        let reloads = || status()["policyReloads"].as_u64().unwrap();
        let before = reloads();
        for n in 100..150 {
            rename_over(POLICY, &documents(n));
        }
        wait_for_set(149, "the last of a burst");
        assert!(reloads() - before < 25, "{} reloads for one burst", reloads() - before);
    });
}

#[test]
fn a_config_map_is_followed_through_its_links() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        let folder = Path::new(POLICY).parent().unwrap();
        // As the kubelet writes it: a folder of its own, and a link that is renamed over the one before.
        let publish = |n: u8| {
            let own = folder.join(format!("..2026_11_23_{n}"));
            fs::create_dir(&own).unwrap();
            fs::write(own.join("policy.yaml"), documents(n)).unwrap();
            symlink(own.file_name().unwrap(), folder.join("..data_tmp")).unwrap();
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        };
        fs::remove_file(POLICY).unwrap();
        publish(1);
        symlink("..data/policy.yaml", POLICY).unwrap();
        node.start();
        assert!(is_in_force(1));
        for n in 2..5 {
            publish(n);
            wait_for_set(n, "the link leads elsewhere");
            fs::remove_dir_all(folder.join(format!("..2026_11_23_{}", n - 1))).unwrap();
        }
        fs::write(folder.join("..2026_11_23_4/policy.yaml"), documents(9)).unwrap();
        wait_for_set(9, "and what it leads to changes");
    });
}

#[test]
fn several_files_are_one_set() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        let more = "/run/more/hosts.yaml";
        let (policy, hosts) = DOCUMENTS.split_once("---\n").unwrap();
        fs::create_dir("/run/more").unwrap();
        fs::write(POLICY, policy).unwrap();
        fs::write(more, hosts).unwrap();
        let config = fs::read_to_string(CONFIG).unwrap();
        fs::write(
            CONFIG,
            config.replace(&format!("['{POLICY}']"), &format!("['{POLICY}', '{more}']")),
        )
        .unwrap();
        node.start();
        let before = generation();
        rename_over(more, &hosts.replace("gw-a", "gw-b"));
        wait_until("one alone is not valid", || status()["policyError"].is_string());
        assert_eq!(generation(), before);
        rename_over(POLICY, &policy.replace("gw-a", "gw-b").replace("8.8.0.0/16", &excluded(1)));
        wait_for_set(1, "both together are");
        assert!(status()["policyError"].is_null());
        node.signal(Signal::HUP);
        rename_over(POLICY, &policy.replace("gw-a", "gw-b").replace("8.8.0.0/16", &excluded(2)));
        wait_for_set(2, "a signal in between does no harm");
    });
}

#[test]
fn a_bad_file_is_told_everywhere_and_changes_nothing() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        node.start();
        let before = generation();
        assert_eq!(metric("node_redirect_policy_file_valid"), 1);
        let bad: [(&str, &dyn Fn()); 5] = [
            ("nobody", &|| {
                rename_over(POLICY, &DOCUMENTS.replace("gateway: gw-a", "gateway: nobody"))
            }),
            ("policy.yaml", &|| rename_over(POLICY, "kind: [\n")),
            ("17 gateways", &|| rename_over(POLICY, &seventeen_gateways())),
            ("utf-8", &|| {
                fs::write(format!("{POLICY}.new"), [0xff, 0xfe, 0x00]).unwrap();
                fs::rename(format!("{POLICY}.new"), POLICY).unwrap();
            }),
            ("directory", &|| {
                fs::remove_file(POLICY).unwrap();
                fs::create_dir(POLICY).unwrap();
            }),
        ];
        for (wanted, change) in bad {
            let failures = metric("node_redirect_policy_reload_failures_total");
            change();
            wait_until(wanted, || {
                let error = status()["policyError"].as_str().unwrap_or_default().to_lowercase();
                metric("node_redirect_policy_reload_failures_total") > failures
                    && error.contains(wanted)
            });
            assert_eq!(metric("node_redirect_policy_file_valid"), 0, "{wanted}");
            let text = node_redirect_ok(&["status"]);
            assert!(text.contains("problem"), "{text}");
            let check = node_redirect(&["check"]);
            let error = String::from_utf8_lossy(&check.stderr).to_lowercase();
            assert_eq!(check.status.code(), Some(2), "{error}");
            assert!(error.contains(wanted), "{wanted}: {error}");
            assert_eq!(generation(), before, "{wanted}");
            assert!(is_in_force(8));
        }
        fs::remove_dir(POLICY).unwrap();
        fs::write(POLICY, documents(1)).unwrap();
        wait_for_set(1, "a good one");
        assert_eq!(metric("node_redirect_policy_file_valid"), 1);
        assert!(!node_redirect_ok(&["status"]).contains("problem"));
    });
}

fn seventeen_gateways() -> String {
    let egress = |i: u8| format!("{{gateway: gw-{i}, egressIPs: [203.0.113.{}]}}", 16 + i);
    let egress: Vec<String> = (0..17).map(egress).collect();
    let gateway = |i: u8| {
        let address = 100 + i;
        format!(
            "---\napiVersion: egress-gateway.io/v1alpha1\nkind: EgressGateway\nmetadata: {{name: gw-{i}}}\nspec: {{tunnelAddress: 192.0.2.{address}}}\n"
        )
    };
    let gateways: String = (0..17).map(gateway).collect();
    let egress = format!("egress: [{}]", egress.join(", "));
    DOCUMENTS.replace("egress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]", &egress) + &gateways
}

#[test]
fn maps_that_are_too_small_or_not_to_be_written_keep_the_set_before() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", "[bpf]\nmax_destinations = 6");
        node.start();

        let many = "[8.1.0.0/16, 8.2.0.0/16, 8.3.0.0/16, 8.4.0.0/16, 8.5.0.0/16, 8.6.0.0/16]";
        let large = DOCUMENTS.replace("[8.8.0.0/16]", many);
        rename_over(POLICY, &large);
        wait_until("it is told what to do", || {
            let error = status()["policyError"].as_str().unwrap_or_default().to_owned();
            error.contains("7 IPv4 destinations") && error.contains("bpf.max_destinations is 6")
        });
        let check = node_redirect(&["check"]);
        assert_eq!(check.status.code(), Some(2));
        let error = String::from_utf8_lossy(&check.stderr).into_owned();
        assert!(error.contains("bpf.max_destinations is 6"), "{error}");
        assert!(is_in_force(8));

        // Five entries do not go beside two where there are six, but they fit alone.
        rename_over(
            POLICY,
            &DOCUMENTS.replace("[8.8.0.0/16]", "[8.1.0.0/16, 8.2.0.0/16, 8.3.0.0/16, 8.4.0.0/16]"),
        );
        wait_for_set(4, "changed in place");
        assert!(!is_in_force(8));

        // Somebody else's entries take the room that the agent counts on.
        let junk: Vec<(u32, IpNet, u32)> =
            (1..2).map(|n| (77, IpNet::new([77, n, 0, 0].into(), 16).unwrap(), 5)).collect();
        maps().destinations.set_many(&junk).unwrap();
        let failures = metric("node_redirect_policy_reload_failures_total");
        rename_over(
            POLICY,
            &DOCUMENTS.replace(
                "[8.8.0.0/16]",
                "[8.1.0.0/16, 8.2.0.0/16, 8.3.0.0/16, 8.4.0.0/16, 8.5.0.0/16]",
            ),
        );
        wait_for_set(5, "tried again when the first write has failed");
        assert!(metric("node_redirect_policy_reload_failures_total") > failures);
        wait_until("and told so", || status()["policyError"].is_null());
        let left = maps().destinations.entries().unwrap();
        assert!(left.iter().all(|(set, ..)| *set != 77), "{left:?}");
        node.kill();

        write_config("", "[bpf]\nmax_destinations = 100");
        for (command, code) in [("run", 1), ("check", 2)] {
            let refused = node_redirect(&[command]);
            let error = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(code), "{error}");
            assert!(error.contains("was made for 6") && error.contains("cleanup"), "{error}");
        }
        node_redirect_ok(&["cleanup"]);
        node.start();
        assert!(is_in_force(5));
        assert!(
            sh("bpftool map show pinned /sys/fs/bpf/node-redirect/destinations")
                .contains("max_entries 100")
        );
    });
}
