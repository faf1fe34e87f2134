//! What users read about the packet path is what it does.

use netd_common::DropReason;

const DOCUMENT: &str = include_str!("../../../docs/packet-path.md");

#[test]
fn every_drop_reason_is_documented_in_its_own_words() {
    for reason in DropReason::ALL {
        let row = format!("| `{}` | {} |", reason.name(), reason.explanation().trim());
        assert!(DOCUMENT.contains(&row), "docs/packet-path.md lacks {row}");
    }
}
