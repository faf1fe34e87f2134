//! Which tests failed and what they said, from the test runners' own words.

/// Opens what each failed test has said, and, after it, the list of their names.
const OPENING: &str = "failures:";
/// What a test has said stands above this line.
const STACK: &str = "stack backtrace:";
/// Lines of one test that are kept.
const KEPT_LINES: usize = 12;

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// Its name as its runner takes it.
    pub(super) name: String,
    /// The first lines that it printed; none where its runner shows them elsewhere.
    pub(super) said: Vec<String>,
}

/// What was heard of runners, line by line.
#[derive(Debug, Default)]
pub(super) struct Failures {
    found: Vec<Failure>,
    said: Vec<Failure>,
    place: Place,
}

/// Where in a runner's words we are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Among lines of tests that run.
    #[default]
    Elsewhere,
    /// Below `failures:`.
    Failures,
    /// Below `---- NAME stdout ----`.
    Said,
}

impl Failures {
    /// Hears one line.
    pub(super) fn hear(&mut self, line: &str) {
        if line == OPENING {
            self.place = Place::Failures;
        } else if line == STACK || line.starts_with("test result: ") {
            self.place = Place::Elsewhere;
        } else if let Some(name) = headline(line) {
            self.said.push(Failure { name: name.to_owned(), said: Vec::new() });
            self.place = Place::Said;
        } else {
            self.hear_within(line);
        }
    }

    /// Those that failed, in the order of their runners' lists.
    pub(super) fn into_found(self) -> Vec<Failure> {
        self.found
    }

    fn hear_within(&mut self, line: &str) {
        match self.place {
            Place::Elsewhere => {}
            Place::Said => {
                let told = self.said.last_mut().map(|it| &mut it.said);
                if let Some(told) = told.filter(|it| it.len() < KEPT_LINES && !line.is_empty()) {
                    told.push(line.to_owned());
                }
            }
            Place::Failures => {
                if let Some(name) = line.strip_prefix("    ") {
                    let said = self.said.iter().rfind(|it| it.name == name);
                    let said = said.map(|it| it.said.clone()).unwrap_or_default();
                    self.found.push(Failure { name: name.to_owned(), said });
                }
            }
        }
    }
}

fn headline(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: &str = "\
running 3 tests
test egress::world ... ok
test publish::port ... FAILED
test seen::drop ... FAILED

failures:

---- publish::port stdout ----

thread 'publish::port' panicked at tests/scenarios/publish.rs:1:1:
no answer
    with more
stack backtrace:
   0: rust_begin_unwind

---- seen::drop stdout ----
Error: nothing seen

failures:
    publish::port
    seen::drop

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0s

    Running more
";

    #[test]
    fn failed_tests_are_named_once_with_what_they_said() {
        let mut failures = Failures::default();
        HEARD.lines().for_each(|line| failures.hear(line));
        let expected = [
            (
                "publish::port",
                vec![
                    "thread 'publish::port' panicked at tests/scenarios/publish.rs:1:1:",
                    "no answer",
                    "    with more",
                ],
            ),
            ("seen::drop", vec!["Error: nothing seen"]),
        ];
        let expected = expected.map(|(name, said)| Failure {
            name: name.to_owned(),
            said: said.into_iter().map(str::to_owned).collect(),
        });
        assert_eq!(failures.into_found(), expected);
    }
}
