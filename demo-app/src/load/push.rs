//! Tells the service how the load went, so that its /metrics shows it next to its own figures.

use super::client;
use super::stats::Summary;
use super::target::Target;
use anyhow::{Context, Result, bail};
use axum::http::{Method, Uri};
use std::time::Duration;
use tokio::time::timeout;

/// Sends a summary on a connection of its own.
pub async fn push(target: &Target, summary: &Summary, limit: Duration) -> Result<()> {
    let target = Target {
        path: Uri::from_static("/load-results"),
        ..target.clone()
    };
    let body = serde_json::to_vec(summary)?;
    let exchange = async {
        let mut connection = client::connect(&target).await?;
        client::request(&mut connection, &target, Method::POST, Some(body.into())).await
    };
    let status = timeout(limit, exchange)
        .await
        .context("no answer in time")??;
    if !status.is_success() {
        bail!("the service answered {status} to POST /load-results");
    }
    Ok(())
}

/// The same while the load runs, where a lost update does not matter: the next one replaces it.
pub async fn best_effort(target: &Target, summary: &Summary, limit: Duration) {
    push(target, summary, limit).await.ok();
}
