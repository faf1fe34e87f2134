//! The contract: each scenario of its sections A to E and G by its id, once and in order, with how it
//! went in both columns, or with the reason why it is not run here.
//!
//! Law: no id is silently absent.

use super::{BOTH, Scenario, Verdict};

/// Every id.
const IDS: &str = "A01 A02 A03 A04 A05 A06 A07 A08 A09 A10 A11 A12 A13 A14 A15 A16 A17 A19 A20 A21 \
    A22 A23 A24 A26 A27 A28 A29 A30 A31 A32 A34 A35 A36 A37 A40 A41 A42 A44 A45 \
    B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B12 B13 B14 B15 B16 B17 B18 B20 \
    C01 C02 C03 C04 C05 C06 C07 C08 C09 C10 C12 C13 C14 C15 C16 C17 C19 \
    D01 D02 D03 D04 D06 D07 D08 D09 D11 D13 D14 D15 D16 D19 D20 D21 D22 D23 D24 D25 D26 D27 D28 D30 \
    E01 E02 E03 E04 E05 E06 E08 E10 G01 G02 G03 G04 G05 G06 G07 G08 G09 G10";

/// What is not run with an engine, and why or where it is told instead. Its name begins with ids.
pub(super) struct Skipped {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
}

const fn skipped(name: &'static str, why: &'static str) -> Skipped {
    Skipped { name, why }
}

pub(super) const SKIPPED: &[Skipped] = &[
    skipped("A01 A02 A03 A04 A05 A06 calls as they come over the wire", "docker_plugin: calls"),
    skipped(
        "A08 A09 A41 A42 calls repeated, incomplete, too late",
        "docker_plugin: networks, endpoints",
    ),
    skipped("A10 A12 A17 endpoints, joins and leaves", "docker_plugin: endpoints"),
    skipped(
        "A14 namespaces that are there at Join",
        "not in Debian 12's engine; docker_plugin: members",
    ),
    skipped("A19 what is told of any endpoint", "docker_plugin: calls"),
    skipped(
        "A20 gateways that are not asked for",
        "not in Debian 12's engine; docker_plugin: networks, members",
    ),
    skipped(
        "A22 default-network-opts",
        "an option of the engine's from 24 on, which it adds by itself",
    ),
    skipped("A35 a call that the kernel holds up", "netd-user: frontend::docker"),
    skipped("A37 an internal network offers no gateway", "docker_plugin: endpoints, traces; C04"),
    skipped("A44 recorded transcripts", "docker_plugin: traces"),
    skipped("B01 B02 B03 B16 default pools", "netd-user: model"),
    skipped("B13 B14 pools asked for again", "docker_plugin: addresses"),
    skipped("B15 B18 pools after failures and restarts", "docker_plugin: addresses"),
    skipped("B17 a network of IPv6 alone", "scenarios: topology; not in Debian 12's engine"),
    skipped(
        "C08 the network of the highest gw-priority is the way out",
        "not in Debian 12's engine; docker_plugin: traces; scenarios: topology",
    ),
    skipped("C15 twelve hundred containers on one network", "an hour; scenarios: limits"),
    skipped(
        "C19 networks of two addresses without a gateway hold two containers",
        "not in Debian 12's engine; docker_plugin: members; scenarios: topology",
    ),
    skipped(
        "E08 the host's firewall narrows who reaches a published port",
        "netd delivers before netfilter looks: publish on one address (D06)",
    ),
];

/// A scenario and how it went in both columns.
type Judged<'a> = (&'a Scenario, [Verdict; 2]);

/// The list: an id's line shows the worst of its scenarios.
pub(super) fn table(judged: &[Judged<'_>]) -> String {
    let mut lines = vec![format!("{:<8} {:<8} id   scenario", "netd", "bridge")];
    for id in IDS.split_whitespace() {
        let told: Vec<_> = judged.iter().filter(|(it, _)| split(it.name).0.contains(&id)).collect();
        let says: Vec<&str> = told.iter().map(|(it, _)| split(it.name).1).collect();
        let word = |column: usize| {
            let verdicts = told.iter().map(|(_, verdicts)| &verdicts[column]);
            verdicts.max_by_key(|it| it.weight()).map(|it| it.word(BOTH[column]))
        };
        lines.push(match (word(0).zip(word(1)), skip_of(id)) {
            (Some((netd, bridge)), _) => {
                format!("{netd:<8} {bridge:<8} {id}  {}", says.join("; "))
            }
            (None, Some(Skipped { name, why })) => {
                format!("{0:<8} {0:<8} {id}  {1} ({why})", "skipped", split(name).1)
            }
            (None, None) => unreachable!("{id} is told"),
        });
    }
    for (column, name) in ["netd", "bridge"].into_iter().enumerate() {
        let count = |weight| judged.iter().filter(|(_, it)| it[column].weight() == weight).count();
        let [not_asked, held, failed] = [0, 1, 2].map(count);
        lines
            .push(format!("{name}: {held} hold, {failed} do not, {not_asked} are not asked of it"));
    }
    lines.join("\n")
}

/// Ids that are neither run nor skipped with a reason.
pub(super) fn untold(scenarios: &[Scenario]) -> Vec<&'static str> {
    let run = |id: &str| scenarios.iter().any(|it| split(it.name).0.contains(&id));
    IDS.split_whitespace().filter(|id| !run(id) && skip_of(id).is_none()).collect()
}

/// What is skipped and told by no scenario: the total of the list counts it.
pub(super) fn skips(scenarios: &[Scenario]) -> usize {
    let run = |id: &str| scenarios.iter().any(|it| split(it.name).0.contains(&id));
    IDS.split_whitespace().filter(|id| !run(id)).count()
}

fn skip_of(id: &str) -> Option<&'static Skipped> {
    SKIPPED.iter().find(|it| split(it.name).0.contains(&id))
}

/// The ids that a name begins with, and what it says.
fn split(name: &str) -> (Vec<&str>, &str) {
    let is_id = |word: &&str| {
        let mut letters = word.chars();
        letters.next().is_some_and(|it| it.is_ascii_uppercase())
            && word.len() == 3
            && letters.all(|it| it.is_ascii_digit())
    };
    let ids: Vec<&str> = name.split(' ').take_while(is_id).collect();
    let says = name.get(ids.len() * 4..).unwrap_or_default();
    (ids, says)
}
