//! One connection of the load generator.

use super::pace::Pace;
use super::stats::Stats;
use super::target::Target;
use anyhow::{Context, Result, bail};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Pause after a failed connect, so that a service that is away is not stormed.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Largest response body that is read.
const MAX_BODY: usize = 1 << 20;

/// A connection that requests can be sent on.
pub type Connection = SendRequest<Full<Bytes>>;

/// What all connections have in common.
#[derive(Debug)]
pub struct Plan {
    /// Where to send.
    pub target: Target,
    /// When to send nothing more.
    pub deadline: Instant,
    /// Limit for one connect and for one request.
    pub timeout: Duration,
}

/// Sends one request after the other until the deadline.
#[derive(Debug)]
pub struct Worker {
    plan: Arc<Plan>,
    stats: Arc<Stats>,
    index: u16,
    pace: Option<Pace>,
}

impl Worker {
    /// The worker of connection `index`.
    pub fn new(plan: Arc<Plan>, stats: Arc<Stats>, index: u16, pace: Option<Pace>) -> Self {
        Self {
            plan,
            stats,
            index,
            pace,
        }
    }

    /// Runs it.
    pub async fn run(mut self) {
        let mut connection = None;
        while let Some(start) = self.wait_for_turn().await {
            let Err(error) = self.exchange(&mut connection).await else {
                self.stats.answered(self.index, start.elapsed());
                continue;
            };
            self.stats.failed(self.index, &error);
            if connection.is_none() {
                sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    /// When the next request starts, or `None` at the deadline.
    async fn wait_for_turn(&mut self) -> Option<Instant> {
        let start = match &mut self.pace {
            None => Instant::now(),
            Some(pace) => {
                let due = pace.due();
                sleep_until(due.min(self.plan.deadline)).await;
                due
            }
        };
        (Instant::now() < self.plan.deadline).then_some(start)
    }

    /// One request and its answer; leaves `connection` empty if it cannot be used again.
    async fn exchange(&self, connection: &mut Option<Connection>) -> Result<()> {
        let limit = self.plan.timeout;
        let mut open = match connection.take() {
            Some(open) if !open.is_closed() => open,
            _ => timeout(limit, connect(&self.plan.target))
                .await
                .context("no connection in time")?
                .context("cannot connect")?,
        };
        let answer = request(&mut open, &self.plan.target, Method::GET, None);
        let status = timeout(limit, answer)
            .await
            .context("no answer in time")??;
        *connection = Some(open);
        if status.as_u16() >= 400 {
            bail!("status {status}");
        }
        Ok(())
    }
}

/// Opens a connection.
pub async fn connect(target: &Target) -> Result<Connection> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when the sender is dropped or the peer closes; its error is the sender's too.
    tokio::spawn(async move {
        connection.await.ok();
    });
    Ok(sender)
}

/// Sends one request, reads the whole answer and returns its status. A body is sent as JSON.
pub async fn request(
    connection: &mut Connection,
    target: &Target,
    method: Method,
    body: Option<Bytes>,
) -> Result<StatusCode> {
    connection.ready().await?;
    let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
    *request.method_mut() = method;
    *request.uri_mut() = target.path.clone();
    request.headers_mut().insert(HOST, target.host.clone());
    if body.is_some() {
        request.headers_mut().insert(
            CONTENT_TYPE,
            axum::http::HeaderValue::from_static("application/json"),
        );
    }
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MAX_BODY);
    match body.collect().await {
        Ok(_) => Ok(status),
        Err(error) => bail!("cannot read the answer: {error}"),
    }
}
