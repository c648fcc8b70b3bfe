//! Texts that are kept once: the same few thousand functions and files are in every stack.

use std::collections::HashSet;
use std::sync::Arc;

/// Different texts that are remembered at most. Those in use stay with their users; only what is
/// met again afterwards is kept a second time.
const MAX_TEXTS: usize = 32 << 10;

/// Shares equal texts.
#[derive(Debug, Default)]
pub struct Texts {
    known: HashSet<Arc<str>>,
}

impl Texts {
    /// The one copy of `text`.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= MAX_TEXTS {
            self.known.clear();
        }
        let shared: Arc<str> = text.into();
        self.known.insert(Arc::clone(&shared));
        shared
    }

    /// Forgets all; what is in use stays with its users.
    pub fn clear(&mut self) {
        self.known = HashSet::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_only_so_many_are_remembered() {
        let mut texts = Texts::default();
        let first = texts.share("main");
        assert!(Arc::ptr_eq(&first, &texts.share("main")));
        for i in 0..2 * MAX_TEXTS {
            texts.share(&i.to_string());
            assert!(texts.known.len() <= MAX_TEXTS);
        }
        assert_eq!(texts.share("main"), first);
    }
}
