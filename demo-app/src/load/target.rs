//! Where the load goes.

use anyhow::{Context, Result, bail};
use axum::http::{HeaderValue, Uri};

/// A parsed `http://host[:port]/path` URL.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port` to connect to.
    pub address: String,
    /// The `Host` header.
    pub host: HeaderValue,
    /// Path and query.
    pub path: Uri,
}

impl Target {
    /// Parses the URL.
    pub fn parse(url: &str) -> Result<Self> {
        let uri: Uri = url
            .parse()
            .with_context(|| format!("--url {url:?} is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("--url {url:?} must start with http:// (TLS is not offered by the demo service)");
        }
        let authority = uri
            .authority()
            .with_context(|| format!("--url {url:?} names no host"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            address: format!(
                "{}:{}",
                authority.host(),
                authority.port_u16().unwrap_or(80)
            ),
            host: HeaderValue::from_str(authority.as_str()).context("the host is not a header")?,
            path: path
                .parse()
                .with_context(|| format!("--url {url:?} has no usable path"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let target = Target::parse("http://127.0.0.1:8080/resolve/abc?x=1").expect("parses");
        assert_eq!(target.address, "127.0.0.1:8080");
        assert_eq!(target.host, "127.0.0.1:8080");
        assert_eq!(target.path, "/resolve/abc?x=1");
        assert_eq!(
            Target::parse("http://localhost").expect("parses").address,
            "localhost:80"
        );
    }

    #[test]
    fn refused() {
        for url in [
            "",
            "/x",
            "https://localhost/",
            "ftp://localhost/",
            "http:///x",
        ] {
            assert!(Target::parse(url).is_err(), "{url:?} was accepted");
        }
    }
}
