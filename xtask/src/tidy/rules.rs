//! The rules, as tables and one function for each kind. A path ends in `/` when it means all below.

use super::Violation;
use crate::source::{Source, words};

const LINES_AT_MOST: usize = 400;

/// Files that may be longer, with the reason (exhaustive tables; nothing else).
const LONG_FILES: [(&str, &str); 0] = [];

/// Words that only some files may name.
struct Reserved {
    words: &'static [&'static str],
    /// Where the rule holds.
    scope: &'static [&'static str],
    /// Where, within it, the words may stand.
    allowed: &'static [&'static str],
    says: &'static str,
}

/// The layers that act on nothing: the same input gives the same output.
const PURE: [&str; 13] = [
    "netd-user/src/model.rs",
    "netd-user/src/model/",
    "netd-user/src/driver.rs",
    "netd-user/src/driver/",
    "netd-user/src/compile.rs",
    "netd-user/src/compile/",
    "netd-user/src/facts.rs",
    "netd-user/src/desired.rs",
    "netd-user/src/desired/",
    "netd-user/src/dataplane/state.rs",
    "netd-user/src/dataplane/delta.rs",
    "netd-user/src/link/state.rs",
    "netd-common/src/",
];

const FRONT_DOORS: [&str; 4] = [
    "netd-user/src/frontend.rs",
    "netd-user/src/frontend/",
    "netd-user/src/cli.rs",
    "netd-user/src/cli/",
];

const RESERVED: [Reserved; 8] = [
    Reserved {
        words: &["aya"],
        scope: &[""],
        allowed: &[
            "netd-user/src/dataplane.rs",
            "netd-user/src/dataplane/",
            "netd-common/src/layout.rs",
            "tests/",
            "bench/",
        ],
        says: "only dataplane/ names aya",
    },
    Reserved {
        words: &["aya_ebpf"],
        scope: &[""],
        allowed: &["netd-ebpf/src/kernel.rs", "netd-ebpf/src/kernel/", "netd-ebpf/src/main.rs"],
        says: "only the kernel edge names aya_ebpf",
    },
    Reserved {
        words: &["rtnetlink"],
        scope: &[""],
        allowed: &["netd-user/src/link.rs", "netd-user/src/link/"],
        says: "only link/ names rtnetlink",
    },
    Reserved {
        words: &["tokio", "async", "await"],
        scope: &PURE,
        allowed: &[],
        says: "a pure layer waits for nothing",
    },
    Reserved {
        words: &["HashMap", "HashSet", "Instant", "SystemTime", "thread_local", "File"],
        scope: &PURE,
        allowed: &[],
        says: "a pure layer has no clock, no files, no globals and ordered collections only",
    },
    Reserved {
        words: &["MapStore", "dataplane"],
        scope: &FRONT_DOORS,
        allowed: &[],
        says: "a front door never sees the tables",
    },
    Reserved {
        words: &["todo", "unimplemented", "dbg"],
        scope: &[""],
        allowed: &[],
        says: "what is not there is not merged",
    },
    Reserved {
        words: &["std", "alloc"],
        scope: &["netd-ebpf/src/"],
        allowed: &["netd-ebpf/src/lib.rs", "netd-ebpf/src/testing.rs", "netd-ebpf/src/testing/"],
        says: "the packet path has core alone",
    },
];

/// Where `unsafe` may stand, each with the reason.
const UNSAFE: &[(&str, &str)] = &[
    ("netd-common/src/layout.rs", "promises that a layout is plain data"),
    ("netd-common/src/wire.rs", "promises the same of a pair, which the macro can't name"),
    ("netd-ebpf/src/kernel.rs", "map and helper calls of the kernel"),
    ("netd-ebpf/src/kernel/", "map and helper calls of the kernel"),
    ("netd-user/src/dataplane/syscall.rs", "the bpf system call where aya wraps none"),
    ("netd-user/src/dataplane/pin.rs", "owns the descriptor that a bpf call returns"),
    ("netd-user/src/dataplane/events.rs", "lends the runtime the ring buffer's descriptor"),
    ("netd-user/src/link/netns.rs", "enters a namespace in a child before it execs"),
    ("netd-user/src/link/inside.rs", "lends the runtime a netlink descriptor"),
    ("netd-user/src/cli/process.rs", "prepares a child between fork and exec"),
    ("netd-user/src/daemon/inherited.rs", "adopts the sockets that the service manager passes"),
    ("netd-user/src/daemon/memory.rs", "sets up the allocator, which no crate here wraps"),
    ("netd-user/src/dns/host.rs", "lends the runtime an inotify descriptor"),
    ("netd-user/src/controller/owner.rs", "pidfd_open, which no crate here wraps"),
    ("bench/src/", "measures through raw system calls"),
];

/// Programs whose work netd does itself, by netlink and bpf.
const PROGRAMS: [&str; 10] =
    ["ip", "tc", "bpftool", "iptables", "ip6tables", "nft", "sysctl", "ethtool", "mount", "bridge"];

/// Everything about one file that breaks a rule.
pub(super) fn check(path: &str, text: &str) -> Vec<Violation> {
    let source = Source::scan(text);
    let mut found = Vec::new();
    let mut report = |line, says: String| {
        found.push(Violation { path: path.to_owned(), line, says });
    };
    check_opening(text, &mut report);
    check_length(path, text, &mut report);
    check_reserved(path, &source, &mut report);
    check_unsafe(path, &source, &mut report);
    check_programs(path, &source, &mut report);
    check_promises(&source, &mut report);
    check_model_owner(path, &source, &mut report);
    found
}

fn check_opening(text: &str, report: &mut impl FnMut(usize, String)) {
    if !text.starts_with("//! ") {
        report(1, "a file opens with `//!`: what it holds and its law".to_owned());
    }
}

fn check_length(path: &str, text: &str, report: &mut impl FnMut(usize, String)) {
    let len = lines_without_tests(text);
    let is_excepted = LONG_FILES.iter().any(|(file, _)| is_within(path, &[file]));
    if len > LINES_AT_MOST && !is_test(path) && !is_excepted {
        report(LINES_AT_MOST + 1, format!("{len} lines without tests, of {LINES_AT_MOST} at most"));
    }
}

/// A file that holds nothing but tests.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn lines_without_tests(text: &str) -> usize {
    lines_of_tests(text).into_iter().filter(|of_test| !of_test).count()
}

/// Which lines belong to modules that are built for tests only, whether they stand here or elsewhere.
fn lines_of_tests(text: &str) -> Vec<bool> {
    let lines: Vec<_> = text.lines().collect();
    let mut of_tests = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        let len = if lines[at] == "#[cfg(test)]" { module_len(&lines[at..]) } else { 0 };
        of_tests[at..at + len].fill(true);
        at += len.max(1);
    }
    of_tests
}

/// How many lines a module takes that attributes stand before; none where it is no module.
fn module_len(lines: &[&str]) -> usize {
    let attributes = lines.iter().take_while(|line| line.starts_with("#[")).count();
    let Some(declared) = lines.get(attributes) else { return 0 };
    let is_module =
        words(declared).map(|(_, word)| word).find(|word| *word != "pub") == Some("mod");
    if !is_module || declared.ends_with(';') {
        return if is_module { attributes + 1 } else { 0 };
    }
    let body = lines[attributes..].iter().position(|line| *line == "}");
    body.map_or(lines.len(), |end| attributes + end + 1)
}

/// The other lines, with their numbers from 0.
fn lines_but_tests(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = code.lines().zip(lines_of_tests(code)).enumerate();
    lines.filter(|(_, (_, of_test))| !of_test).map(|(index, (line, _))| (index, line))
}

fn check_reserved(path: &str, source: &Source, report: &mut impl FnMut(usize, String)) {
    // A test may hold more than the code under test: it runs on the host, with what it needs.
    if is_test(path) {
        return;
    }
    let rules = RESERVED
        .iter()
        .filter(|rule| is_within(path, rule.scope) && !is_within(path, rule.allowed));
    for rule in rules {
        for (index, line) in lines_but_tests(&source.code) {
            if let Some((_, word)) = words(line).find(|(_, word)| rule.words.contains(word)) {
                report(index + 1, format!("`{word}`: {}", rule.says));
            }
        }
    }
}

fn check_unsafe(path: &str, source: &Source, report: &mut impl FnMut(usize, String)) {
    if UNSAFE.iter().any(|(file, _)| is_within(path, &[file])) {
        return;
    }
    for (index, line) in source.code.lines().enumerate() {
        if words(line).any(|(_, word)| word == "unsafe") {
            report(index + 1, "`unsafe` in a file whose role needs none".to_owned());
        }
    }
}

fn check_programs(path: &str, source: &Source, report: &mut impl FnMut(usize, String)) {
    if !is_within(path, &["netd-user/src/"]) {
        return;
    }
    for (index, line) in source.code_and_text.lines().enumerate() {
        let program =
            PROGRAMS.iter().find(|name| line.contains(&format!("Command::new(\"{name}\")")));
        if let Some(name) = program {
            report(index + 1, format!("`{name}` is not run: netd does its work itself"));
        }
    }
}

/// A comment that promises work is an issue that nobody sees.
fn check_promises(source: &Source, report: &mut impl FnMut(usize, String)) {
    for (index, line) in source.comments.lines().enumerate() {
        let promise =
            words(line).find(|(_, word)| matches!(*word, "TODO" | "FIXME" | "XXX" | "HACK"));
        if let Some((_, word)) = promise {
            report(index + 1, format!("`{word}`: do it, or open an issue"));
        }
    }
}

fn check_model_owner(path: &str, source: &Source, report: &mut impl FnMut(usize, String)) {
    const OWNERS: [&str; 4] = [
        "netd-user/src/controller.rs",
        "netd-user/src/controller/",
        "netd-user/src/model.rs",
        "netd-user/src/model/",
    ];
    if !is_within(path, &["netd-user/src/"]) || is_within(path, &OWNERS) {
        return;
    }
    for (index, line) in lines_but_tests(&source.code) {
        if line.contains("&mut Model") {
            report(index + 1, "only the controller changes the model".to_owned());
        }
    }
}

fn is_within(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        path == *place || (place.is_empty() || place.ends_with('/')) && path.starts_with(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, code: &str) -> Vec<(usize, String)> {
        let found = check(path, &format!("//! Opens.\n{code}"));
        found.into_iter().map(|violation| (violation.line, violation.says)).collect()
    }

    #[test]
    fn each_layer_names_only_its_own_library() {
        assert_eq!(broken("netd-user/src/controller.rs", "use aya::Ebpf;").len(), 1);
        assert_eq!(broken("netd-user/src/dataplane/maps.rs", "use aya::Ebpf;"), []);
        assert_eq!(broken("netd-ebpf/src/pipeline.rs", "use aya_ebpf::x;").len(), 1);
        assert_eq!(broken("netd-ebpf/src/kernel/tc.rs", "use aya_ebpf::x;"), []);
        assert_eq!(broken("netd-user/src/daemon.rs", "rtnetlink::new_connection()").len(), 1);
    }

    #[test]
    fn pure_layer_neither_waits_nor_depends_on_hash_order() {
        assert_eq!(broken("netd-user/src/model/ipam.rs", "\nasync fn f() {}")[0].0, 3);
        assert_eq!(broken("netd-user/src/driver.rs", "use std::collections::HashMap;").len(), 1);
        assert_eq!(broken("netd-user/src/controller.rs", "async fn f() {}"), []);
        assert_eq!(broken("netd-user/src/model.rs", "// async\nlet s = \"tokio\";"), []);
    }

    #[test]
    fn test_module_of_a_pure_file_may_use_what_it_needs() {
        let code = "fn f() {}\n#[cfg(test)]\nmod tests {\n use std::collections::HashMap;\n}\n";
        assert_eq!(broken("netd-user/src/model.rs", code), []);
    }

    #[test]
    fn unsafe_stands_only_where_the_table_says() {
        assert_eq!(broken("netd-user/src/config.rs", "unsafe { f() }").len(), 1);
        assert_eq!(broken("netd-common/src/layout.rs", "unsafe { f() }"), []);
        assert_eq!(broken("netd-user/src/config.rs", "/// unsafe\nlet unsafely = 1;"), []);
    }

    #[test]
    fn file_is_measured_without_its_tests() {
        let long = "fn f() {}\n".repeat(LINES_AT_MOST);
        assert_eq!(broken("netd-user/src/a.rs", &long).len(), 1);
        assert_eq!(broken("tests/tests/a.rs", &long), []);
        let tested = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(broken("netd-user/src/a.rs", &tested), []);
    }

    #[test]
    fn what_stands_behind_a_test_module_counts() {
        let long = "fn f() {}\n".repeat(LINES_AT_MOST);
        for tests in ["#[cfg(test)]\nmod memory;\n", "#[cfg(test)]\nmod tests {\n}\n"] {
            assert_eq!(broken("netd-user/src/a.rs", &format!("{tests}{long}")).len(), 1, "{tests}");
        }
        let named = "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\nuse aya::Ebpf;\n";
        assert_eq!(broken("netd-user/src/controller.rs", named).len(), 1);
    }

    #[test]
    fn netd_runs_no_program_for_its_own_work() {
        let code = "Command::new(\"iptables\")";
        assert_eq!(broken("netd-user/src/link/netlink.rs", code).len(), 1);
        assert_eq!(broken("tests/src/netns.rs", code), []);
    }

    #[test]
    fn promises_are_found_in_comments_and_macros() {
        assert_eq!(broken("xtask/src/a.rs", "// TODO later").len(), 1);
        assert_eq!(broken("xtask/src/a.rs", "todo!()").len(), 1);
        assert_eq!(broken("xtask/src/a.rs", "let s = \"TODO\";"), []);
    }

    #[test]
    fn file_without_an_opening_is_found() {
        assert_eq!(check("xtask/src/a.rs", "fn f() {}\n")[0].line, 1);
    }

    #[test]
    fn only_the_controller_changes_the_model() {
        assert_eq!(broken("netd-user/src/frontend/api.rs", "fn f(m: &mut Model) {}").len(), 1);
        assert_eq!(broken("netd-user/src/controller.rs", "fn f(m: &mut Model) {}"), []);
    }
}
