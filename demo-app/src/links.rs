//! The link store: in memory, bounded, with codes that do not reveal how many links there are.

use axum::http::Uri;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

/// Most links that are kept.
pub const MAX_LINKS: usize = 100_000;
/// Longest accepted URL in bytes.
pub const MAX_URL_LEN: usize = 2048;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CODE_LEN: usize = 6;
/// Number of codes of six characters: 62^6.
const CODES: u64 = 56_800_235_584;
/// Shares no factor with [`CODES`] (2 and 31), so multiplying by it modulo `CODES` hits every code
/// once; the product of the largest factors still fits into 64 bits.
const SPREAD: u64 = 283_185_311;

/// Why a link was not created.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// The text is no URL that can be redirected to.
    #[error("not a usable URL: {0}; send an absolute http or https URL")]
    BadUrl(&'static str),
    /// The store holds [`MAX_LINKS`].
    #[error("the link store is full ({MAX_LINKS} links); restart the service to empty it")]
    Full,
}

/// Code to URL.
#[derive(Debug, Default)]
pub struct Links(RwLock<HashMap<String, Arc<str>>>);

impl Links {
    /// Stores a URL and returns its new code.
    pub fn create(&self, url: &str) -> Result<String, LinkError> {
        check(url)?;
        let mut links = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= MAX_LINKS {
            return Err(LinkError::Full);
        }
        // Links are never removed, so the count is a number that was not used yet.
        let code = code(links.len() as u64 + 1);
        links.insert(code.clone(), Arc::from(url));
        Ok(code)
    }

    /// The URL of a code.
    pub fn find(&self, code: &str) -> Option<Arc<str>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(code)
            .cloned()
    }
}

fn check(url: &str) -> Result<(), LinkError> {
    if url.len() > MAX_URL_LEN {
        return Err(LinkError::BadUrl("longer than 2048 bytes"));
    }
    // The URL becomes a header value: what `Uri` accepts has no spaces and no control characters.
    let uri: Uri = url
        .parse()
        .map_err(|_| LinkError::BadUrl("it does not parse"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(LinkError::BadUrl("its scheme is not http or https"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(LinkError::BadUrl("it names no host"));
    }
    Ok(())
}

fn code(number: u64) -> String {
    let mut rest = (number % CODES) * SPREAD % CODES;
    let mut code = [0_u8; CODE_LEN];
    for digit in &mut code {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    code.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_created_link_is_found() {
        let links = Links::default();
        let code = links.create("https://example.com/a?b=c").expect("created");
        assert_eq!(
            links.find(&code).as_deref(),
            Some("https://example.com/a?b=c")
        );
        assert_eq!(links.find("nope"), None);
    }

    #[test]
    fn codes_are_distinct_and_of_one_length() {
        let codes: HashSet<String> = (1..=10_000).map(code).collect();
        assert_eq!(codes.len(), 10_000);
        assert!(codes.iter().all(|code| code.len() == CODE_LEN));
        // The Go twin has the same table: both create the same codes.
        assert_eq!(code(1), "1RDAJ0");
    }

    #[test]
    fn spread_and_number_of_codes_share_no_factor() {
        assert_eq!(CODES, 62_u64.pow(6));
        assert!(!SPREAD.is_multiple_of(2) && !SPREAD.is_multiple_of(31));
        assert!((CODES - 1).checked_mul(SPREAD).is_some());
    }

    #[test]
    fn bad_urls_are_refused() {
        let links = Links::default();
        let long = format!("http://example.com/{}", "x".repeat(MAX_URL_LEN));
        for url in [
            "",
            "/path",
            "ftp://example.com/",
            "http://",
            "http://a b/",
            "http://a/\n",
            &long,
        ] {
            assert!(
                matches!(links.create(url), Err(LinkError::BadUrl(_))),
                "{url:?} was accepted"
            );
        }
    }

    #[test]
    fn the_store_is_bounded() {
        let links = Links::default();
        for _ in 0..MAX_LINKS {
            links.create("http://example.com/").expect("room");
        }
        assert_eq!(links.create("http://example.com/"), Err(LinkError::Full));
    }
}
