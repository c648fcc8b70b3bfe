//! Processes that targets made: they are not observed, which the report says in one line for each target.

use std::collections::BTreeMap;

use crate::model::Pid;

/// Children that a note names: enough to recognise them, and a note stays readable.
const NAMED: usize = 8;

/// Children by the process that made them.
#[derive(Debug, Default)]
pub struct Children {
    by_parent: BTreeMap<u32, Made>,
}

/// What one process made.
#[derive(Debug, Default)]
struct Made {
    count: u64,
    /// The first ones.
    named: Vec<Pid>,
}

impl Children {
    /// `parent` made `child`.
    pub fn add(&mut self, parent: Pid, child: Pid) {
        let made = self.by_parent.entry(parent.0).or_default();
        made.count += 1;
        if made.named.len() < NAMED {
            made.named.push(child);
        }
    }

    /// One note for each parent.
    pub fn notes(&self) -> Vec<String> {
        self.by_parent
            .iter()
            .map(|(parent, made)| {
                let named: Vec<String> = made.named.iter().map(Pid::to_string).collect();
                let named = named.join(", ");
                match made.count - made.named.len() as u64 {
                    0 if made.count == 1 => format!(
                        "pid {parent} made child process {named}, which was not observed (add it with -p)"
                    ),
                    0 => format!(
                        "pid {parent} made {} child processes, which were not observed (add those that still run with -p): {named}",
                        made.count
                    ),
                    more => format!(
                        "pid {parent} made {} child processes, which were not observed (add those that still run with -p): {named} and {more} more",
                        made.count
                    ),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_parent_however_many_children_and_none_uncounted() {
        let mut children = Children::default();
        assert!(children.notes().is_empty());
        children.add(Pid(7), Pid(8));
        for child in 100..1100 {
            children.add(Pid(9), Pid(child));
        }
        let notes = children.notes();
        assert_eq!(
            notes[0],
            "pid 7 made child process 8, which was not observed (add it with -p)"
        );
        assert!(notes[1].starts_with("pid 9 made 1000 child processes"));
        assert!(notes[1].ends_with(": 100, 101, 102, 103, 104, 105, 106, 107 and 992 more"));
        assert_eq!(notes.len(), 2);
    }
}
