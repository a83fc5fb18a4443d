//! Which crate may depend on which: arrows point down between ranks, and some not even that.

use super::Finding;
use crate::workspace::{DependencyKind, Package};

/// The ranks of ARCHITECTURE.md, lowest first.
const RANKS: &[&[&str]] = &[
    &["types"],
    &["storage", "disk", "pickle"],
    &["wire", "filestorage", "blobs", "layers", "resolve", "config"],
    &["core", "cache"],
    &["server", "interpreter", "client"],
    &["cli", "python"],
    &["sim", "hostile"],
];

/// Downward arrows that would still let a crate know what it must not know.
const NEVER: &[(&str, &[&str])] = &[
    ("disk", &["types"]),
    ("wire", &["storage", "disk"]),
    ("layers", &["disk"]),
    ("blobs", &["disk"]),
    ("config", &["types", "storage", "disk", "pickle"]),
    ("core", &["wire", "filestorage", "blobs", "layers", "config", "disk", "pickle"]),
    ("cache", &["wire", "filestorage", "blobs", "layers", "config", "storage"]),
    ("client", &["core", "storage", "filestorage", "blobs", "layers"]),
    ("server", &["cache"]),
    ("interpreter", &["wire", "filestorage", "config", "core"]),
];

/// Crates of others that only some of ours may name, outside of tests.
const RESERVED: &[(&str, &[&str])] = &[
    ("tokio", &["server", "client", "cli", "python", "sim"]),
    ("socket2", &["server", "client", "sim"]),
    ("rustix", &["disk", "server", "interpreter", "client", "cli"]),
    ("clap", &["cli"]),
    ("tracing-subscriber", &["cli", "python", "sim"]),
];

/// All that `core` may name, outside of tests.
const CORE_NEEDS: &[&str] = &["zeolith-types", "zeolith-storage", "bytes", "thiserror"];

const PREFIX: &str = "zeolith-";

/// Looks at the manifests.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().filter(|package| package.name != "xtask").flat_map(of_package).collect()
}

fn of_package(package: &Package) -> Vec<Finding> {
    let short = package.name.strip_prefix(PREFIX).unwrap_or(&package.name);
    let manifest = format!("crates/{short}/Cargo.toml");
    let Some(rank) = rank(short) else {
        return vec![Finding::new(&manifest, 0, "has no rank: give it one in tidy and in ARCHITECTURE.md")];
    };
    let mut findings = Vec::new();
    if package.description.is_empty() {
        findings.push(Finding::new(&manifest, 0, "has no description"));
    }
    for (dependency, kind) in &package.dependencies {
        let problem = match dependency.strip_prefix(PREFIX) {
            Some(below) => ours(short, rank, below),
            None => others(short, dependency, *kind),
        };
        findings.extend(problem.map(|what| Finding::new(&manifest, 0, what)));
    }
    findings
}

fn rank(short: &str) -> Option<usize> {
    RANKS.iter().position(|crates| crates.contains(&short))
}

/// Tests follow the same rule: what a test needs from above belongs into a test above.
fn ours(short: &str, own_rank: usize, below: &str) -> Option<String> {
    let Some(rank) = rank(below) else {
        return Some(format!("depends on {below}, which has no rank"));
    };
    if rank >= own_rank {
        return Some(format!(
            "{short} (rank {own_rank}) depends on {below} (rank {rank}): arrows point down only"
        ));
    }
    let forbidden = NEVER.iter().any(|(from, to)| *from == short && to.contains(&below));
    forbidden.then(|| format!("{short} must not know {below}"))
}

fn others(short: &str, dependency: &str, kind: DependencyKind) -> Option<String> {
    if kind == DependencyKind::Dev {
        return None;
    }
    if short == "core" && !CORE_NEEDS.contains(&dependency) {
        return Some(format!("core decides and does nothing else: it has no use for {dependency}"));
    }
    let (_, holders) = RESERVED.iter().find(|(name, _)| *name == dependency)?;
    (!holders.contains(&short)).then(|| format!("{dependency} is for {} only", holders.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, dependencies: &[(&str, DependencyKind)]) -> Vec<String> {
        let package = Package {
            name: name.to_owned(),
            description: "Something.".to_owned(),
            rust_version: String::new(),
            dependencies: dependencies.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
        };
        check(&[package]).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn an_arrow_down_is_fine_and_an_arrow_up_or_sideways_is_not() {
        use DependencyKind::{Dev, Normal};
        assert!(
            findings("zeolith-server", &[("zeolith-core", Normal), ("zeolith-types", Normal)]).is_empty()
        );
        assert!(findings("zeolith-types", &[("zeolith-wire", Normal)])[0].contains("arrows point down"));
        assert!(findings("zeolith-filestorage", &[("zeolith-wire", Dev)])[0].contains("arrows point down"));
    }

    #[test]
    fn core_may_not_look_down_to_bytes_nor_out_to_sockets() {
        let two = [("zeolith-wire", DependencyKind::Normal), ("tokio", DependencyKind::Normal)];
        let found = findings("zeolith-core", &two);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(findings("zeolith-core", &[("proptest", DependencyKind::Dev)]).is_empty());
    }

    #[test]
    fn a_runtime_below_the_shells_is_found_unless_only_tests_use_it() {
        assert_eq!(findings("zeolith-wire", &[("tokio", DependencyKind::Normal)]).len(), 1);
        assert!(findings("zeolith-wire", &[("tokio", DependencyKind::Dev)]).is_empty());
    }

    #[test]
    fn a_new_crate_needs_a_rank() {
        assert!(findings("zeolith-gossip", &[])[0].contains("no rank"));
        assert!(
            findings("zeolith-server", &[("zeolith-gossip", DependencyKind::Normal)])[0].contains("rank")
        );
    }
}
